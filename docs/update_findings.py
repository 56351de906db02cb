"""Write the table of findings in docs/doctor.md anew: python docs/update_findings.py."""

from pathlib import Path

from atrous.doctor.kinds import format_table

DOCUMENT = Path(__file__).with_name("doctor.md")
START, END = "<!-- findings: written by docs/update_findings.py -->\n", "<!-- end of findings -->\n"


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{START}\n{format_table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
