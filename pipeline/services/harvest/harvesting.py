"""Looks in, chosen and labelled frames out, into a set of labelled pictures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.core.events import rfc3339
from pipeline.outputs.labelled_set import Boxes, LabelledPicture, LabelledSet
from pipeline.services.harvest.choosing import Candidate, Chooser, FlickerWatch, Reason, uncertain
from pipeline.services.harvest.corrections import Correction
from pipeline.services.harvest.labels import Label, Labeller, kind_of
from pipeline.services.harvest.looking import Look

_LATE_US = 2_000_000


@dataclass(frozen=True, slots=True)
class Rules:
    """What is kept. per_hour: doubtful frames of a camera's hour at most; 0: only what was corrected."""

    per_hour: float = 60.0
    corrections: Sequence[Correction] = ()


@dataclass(slots=True)
class Harvested:
    """What came of it. looked: frames. kept: by reason. not_found: corrections whose frame never came."""

    looked: int = 0
    kept: Counter[Reason] = field(default_factory=Counter)
    not_found: list[Correction] = field(default_factory=list)


class Harvest:
    """Chooses, labels and writes. Cameras may come in any order, each one's frames in theirs."""

    def __init__(self, rules: Rules, labeller: Labeller, into: LabelledSet) -> None:
        self._rules = rules
        self._labeller = labeller
        self._into = into
        self._told = Harvested()
        self._choosers: dict[str, Chooser] = {}
        self._watches: dict[tuple[str, int], FlickerWatch] = {}
        self._written: set[tuple[str, int, int]] = set()
        self._waiting: defaultdict[str, list[Correction]] = defaultdict(list)
        for correction in rules.corrections:
            self._waiting[correction.moment.camera_id].append(correction)

    def run(self, looks: Iterable[Look]) -> Harvested:
        """Take every look; what was kept is in the set."""
        for look in looks:
            self._told.looked += 1
            corrections = self._due(look)
            if corrections:
                reason: Reason = corrections[0].verdict
                detail = "; ".join(each.words() for each in corrections)
                self._keep(Candidate(look, reason, 1.0, detail), corrections)
            if self._rules.per_hour:
                self._offer(look)
        for chooser in self._choosers.values():
            for candidate in chooser.close():
                self._keep(candidate)
        self._told.not_found = [each for waiting in self._waiting.values() for each in waiting]
        return self._told

    def _due(self, look: Look) -> list[Correction]:
        """The corrections that are about this frame; each is given once."""
        waiting = self._waiting.get(look.camera_id)
        if not waiting:
            return []
        due = [each for each in waiting if _is_meant(each, look)]
        for each in due:
            waiting.remove(each)
        return due

    def _offer(self, look: Look) -> None:
        chooser = self._choosers.setdefault(look.camera_id, Chooser(self._rules.per_hour))
        watch = self._watches.setdefault((look.camera_id, look.epoch), FlickerWatch())
        doubt = uncertain(look)
        for candidate in [*watch.watch(look), *([doubt] if doubt else [])]:
            for kept in chooser.offer(candidate):
                self._keep(kept)

    def _keep(self, candidate: Candidate, corrections: Sequence[Correction] = ()) -> None:
        look = candidate.look
        if look.key in self._written:
            return
        self._written.add(look.key)
        self._told.kept[candidate.reason] += 1
        lost = [track.class_name for track in look.tracks if not track.seen]
        made = self._labeller.labels(look, corrections, lost=lost)
        classes = look.found.classes
        self._into.add(
            LabelledPicture(
                picture=look.picture,
                camera_id=look.camera_id,
                time=rfc3339(look.at_us),
                epoch=look.epoch,
                frame=look.frame.index,
                reason=candidate.reason,
                detail=candidate.detail,
                source=look.source,
                judged_by=(look.model.name, look.model.version, look.model.sha256),
                labelled_by=(made.by.name, made.by.version, made.by.sha256),
                classes=classes,
                known=made.known,
                labelled_classes=tuple(name for name in classes if kind_of(name) in made.known),
                labels=_boxes(made.labels),
                doubtful=_boxes(made.doubtful),
                removed=_boxes(made.removed),
            )
        )


def _is_meant(correction: Correction, look: Look) -> bool:
    moment = correction.moment
    if moment.index is not None:
        return look.epoch == moment.epoch and look.frame.index >= moment.index
    return moment.at_us <= look.at_us <= moment.at_us + _LATE_US


def _boxes(labels: Sequence[Label]) -> Boxes:
    return tuple((label.class_name, label.box, label.score) for label in labels)
