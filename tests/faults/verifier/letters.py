"""Every bad record is in the dead letters exactly once, with its bytes; no good one is."""

from __future__ import annotations

from faults.verifier.records import Findings, Place, Record


class Letters:
    def __init__(self, findings: Findings, prefix: str) -> None:
        """`prefix`: of the topics' real names, which the headers tell."""
        self.findings = findings
        self.prefix = prefix
        self.bad: dict[Place, bytes | None] = {}
        self.letters: dict[Place, Record] = {}

    def refuse(self, record: Record) -> None:
        """A record of an input that breaks its contract."""
        self.bad[record.place] = record.value

    def letter(self, record: Record) -> None:
        """A record of a dead-letter topic."""
        told = record.headers
        topic = told["upwell-topic"].decode().removeprefix(self.prefix)
        origin = Place(topic, int(told["upwell-partition"]), int(told["upwell-offset"]))
        if origin in self.letters:
            before = self.letters[origin].place
            self.findings.add("dead letter", record.place, f"{origin} stands at {before} too", doubled=1)
        self.letters[origin] = record

    def finish(self) -> None:
        for place in self.bad.keys() - self.letters.keys():
            self.findings.add("dead letter", place, "a bad record is not in the dead letters", lost=1)
        for place in self.letters.keys() - self.bad.keys():
            letter = self.letters[place]
            reason = letter.headers.get("upwell-reason", b"").decode(errors="replace")
            self.findings.add("dead letter", letter.place, f"a good record, {place}, was refused: {reason}", lost=1)
        for place in self.bad.keys() & self.letters.keys():
            if self.letters[place].value != self.bad[place]:
                self.findings.add("dead letter", self.letters[place].place, f"not the bytes of {place}")
