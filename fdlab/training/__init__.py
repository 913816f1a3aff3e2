"""Fine-tuning of TDM and SDM: their objective, and LightningModules that wire."""
