"""Fine-tuning of TDM and SDM: LightningModules that wire, weight averaging, callbacks, exact resume."""
