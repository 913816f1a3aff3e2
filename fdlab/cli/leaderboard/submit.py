"""`fdlab leaderboard submit RUN`: pack a run for others to check."""

from __future__ import annotations

from pathlib import Path

from fdlab.cli.options import parser


def main(argv: list[str]) -> int:
    """Run the sub-command."""
    made = parser(
        "leaderboard submit",
        "Pack a record with the scores of single pictures, its configuration, environment and a manifest of\n"
        "digests into one zip file. environment.json and config.yaml name folders of this machine.",
        epilog="example: python -m fdlab leaderboard submit runs/sdm/a --pictures --out a.zip",
    )
    made.add_argument("run", metavar="RUN", help="a run, its folder evaluation, or a record.json")
    made.add_argument("--out", metavar="FILE", help="the archive (default: RUN.zip here)")
    made.add_argument(
        "--pictures", action="store_true", help="pack the pictures, so that scores can be measured again"
    )
    arguments = made.parse_args(argv)

    from fdlab.leaderboard import compare
    from fdlab.submissions import packing

    entry = compare.locate(Path(arguments.run))
    out = Path(arguments.out or f"{entry.run}.zip")
    names = packing.pack(entry, out, arguments.pictures)
    print(f"{out}: {len(names)} files, {out.stat().st_size:,} bytes")
    print(f"check it: python -m fdlab leaderboard verify {out}")
    return 0
