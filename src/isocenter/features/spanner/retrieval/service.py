"""Retrieving through a configuration: who has it, and the best of them gives it, once for all who ask."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, Generic

from isocenter.dicom.tags import PATIENT_ID
from isocenter.features.spanner.asking import Asking, SpanningFailed
from isocenter.features.spanner.breaker import BreakerState
from isocenter.features.spanner.configurations import SetUp
from isocenter.features.spanner.entries import Mapped, SourceType
from isocenter.features.spanner.failures import Ended, SourceFailed
from isocenter.features.spanner.fan_out import Outcome
from isocenter.features.spanner.measures import SourceKey
from isocenter.features.spanner.persons import person_of, same_in_one_study
from isocenter.features.spanner.retrieval.at_hand import AtHand, StudyKey
from isocenter.features.spanner.retrieval.keeping import H, Keeper, Landing, key_of
from isocenter.features.spanner.retrieval.orders import Order
from isocenter.features.spanner.retrieval.under_way import Retrieval
from isocenter.features.spanner.retrieval.wanted import Holding, Wanted, holdings_of
from isocenter.features.spanner.service import Spanner
from isocenter.features.spanner.shared import UnderWay
from isocenter.kit.clock import Clock
from isocenter.kit.errors import Conflict, IsocenterError, NotFound

SILENCE_S_MIN = 30.0
"""A source may say nothing for as long as its questions may take, and for so long at the least: images may
have to be fetched from a tape."""

HELD_S = 900.0
"""How long objects that are not kept are at hand after they came. The sweep takes them a day later at the
latest (``sweep_grace_s``)."""


class Retrievals(Generic[H]):
    """One in a process."""

    def __init__(
        self,
        spanner: Spanner,
        keeper: Keeper[H],
        clock: Clock,
        *,
        silence_s_min: float = SILENCE_S_MIN,
        held_s: float = HELD_S,
    ) -> None:
        self._spanner = spanner
        self._keeper = keeper
        self._silence_s_min = silence_s_min
        self._at_hand: AtHand[H] = AtHand(clock, held_s)
        self._under_way: UnderWay[Retrieval[H]] = UnderWay()
        self._places: dict[SourceKey, asyncio.Semaphore] = {}

    async def begin(self, organization_id: int, config_id: int, wanted: Wanted) -> Retrieval[H]:
        """Attend it: `Retrieval.attending`. Raises NotFound where no source has it, Conflict where sources
        tell of two patients, SpanningFailed as the configuration has it, InvalidInput, Unavailable."""
        set_up = await self._spanner.set_up(organization_id, config_id)
        key = (organization_id, config_id, set_up.configuration.version, wanted)
        retrieval = self._under_way.get(key)
        if retrieval is None:
            located = await self._located(organization_id, set_up, wanted)
            retrieval = self._under_way.get(key)  # somebody else may have asked meanwhile
        if retrieval is None:
            retrieval = located
            retrieval.start(retrieval.run(partial(self._fetch, organization_id, set_up, retrieval)))
            self._under_way.put(key, retrieval)
        retrieval.attend()
        return retrieval

    async def holdings(self, organization_id: int, config_id: int, wanted: Wanted) -> Sequence[Holding]:
        """Who has what of it; nothing is retrieved. Raises as `begin` does."""
        set_up = await self._spanner.set_up(organization_id, config_id)
        return (await self._located(organization_id, set_up, wanted)).holdings

    async def one_at_hand(self, organization_id: int, config_id: int, wanted: Wanted) -> H | None:
        """One instance, if nobody has to be asked for it: it came of late, or the archive has it and means
        the same by its study as the sources. Raises NotFound, Unavailable."""
        study = StudyKey(organization_id, config_id, wanted.study_uid)
        set_up = await self._spanner.set_up(organization_id, config_id)
        if uses_archive(set_up) and self._at_hand.archive_agrees(study):
            for one in await self._keeper.here(organization_id, wanted):
                return one
        return next(iter(self._at_hand.of(study, wanted)), None)

    # ---- who has it

    async def _located(self, organization_id: int, set_up: SetUp, wanted: Wanted) -> Retrieval[H]:
        studies, instances = await asyncio.gather(
            self._spanner.gather(organization_id, set_up, wanted.study_question()),
            self._spanner.gather(organization_id, set_up, wanted.question()),
        )
        study = StudyKey(organization_id, set_up.configuration.id, wanted.study_uid)
        of_patient = await self._check_patient(study, set_up, studies)
        holdings = holdings_of(wanted, instances.joined(), of_patient)
        agrees = self._at_hand.archive_agrees(study)
        there = self._at_hand.of(study, wanted)
        if agrees and uses_archive(set_up):
            there = [*await self._keeper.here(organization_id, wanted), *there]
        outcomes = instances.so_far().outcomes
        unsure = [*studies.so_far().missing, *instances.so_far().missing]
        if not unsure:  # else it may be of one that does not answer: that is no reason to leave it out
            expected = {one.key for one in holdings}
            there = [one for one in there if key_of(one) in expected]
        if not (holdings or there):
            raise _nowhere(wanted, unsure)
        retrieval = Retrieval[H](
            wanted,
            holdings,
            [one.source for one in self._ranked(organization_id, set_up)],
            outcomes,
            archive_agrees=agrees,
            attempts_max=1 + set_up.configuration.retry_attempts,
        )
        for one in there:
            retrieval.came(one)
        return retrieval

    async def _check_patient(self, study: StudyKey, set_up: SetUp, studies: Asking) -> frozenset[int]:
        """The sources that say whose study it is. Raises Conflict where they mean different patients."""
        answers = studies.joined()
        if len(answers) > 1:
            names = {mapped.source.id: mapped.source.name for mapped in set_up.sources}
            said = "; ".join(", ".join(names[found] for found in answer.found_in) for answer in answers)
            raise Conflict(
                f"Archives tell of different patients under that Study Instance UID: {said}.",
                code="study-of-two-patients",
                remedy="Retrieve it from the archive that is right, and have the other corrected.",
            )
        if not answers:
            return frozenset()
        [answer] = answers
        issuers = {mapped.source.id: mapped.source.issuer for mapped in set_up.sources}
        patient = person_of(answer.row, issuers.get(answer.origins.get(PATIENT_ID, 0), ""))
        here = await self._keeper.patient_here(study.organization_id, study.study_uid)
        agrees = here is None or same_in_one_study(here, patient)
        self._at_hand.checked(study, patient, archive_agrees=agrees)
        return frozenset(answer.found_in)

    def _ranked(self, organization_id: int, set_up: SetUp) -> list[Mapped]:
        """The best first: those that do not rest, the most trusted, the quickest."""

        def standing(mapped: Mapped) -> tuple[bool, int, float, str]:
            turnstile = self._spanner.turnstile(organization_id, mapped.source)
            rests = turnstile.state() is not BreakerState.CLOSED
            return rests, mapped.priority, turnstile.record.median_s or 0.0, mapped.source.name

        return sorted((one for one in set_up.sources if one.source.enabled), key=standing)

    # ---- having it given

    async def _fetch(
        self, organization_id: int, set_up: SetUp, retrieval: Retrieval[H], order: Order
    ) -> None:
        """Raises SourceFailed."""
        [mapped] = [one for one in set_up.sources if one.source.id == order.source_id]
        source = mapped.source
        arrivals = _Arrivals(
            retrieval,
            self._at_hand,
            StudyKey(organization_id, set_up.configuration.id, order.study_uid),
            (organization_id, source.id),
            self._spanner.measures.objects,
            keep=set_up.configuration.keep_retrieved,
        )
        landing = self._keeper.landing(organization_id, source, arrivals)
        timeout_s = mapped.timeout_override or set_up.configuration.timeout_seconds
        async with self._place(organization_id, mapped):
            try:
                adapter = self._spanner.adapters.of(organization_id, source)
                await _heard_of(
                    adapter.fetch(order, landing), landing, silence_s=max(timeout_s, self._silence_s_min)
                )
            except SourceFailed as failure:
                self._spanner.turnstile(organization_id, source).failed(failure)
                raise
            finally:
                await landing.settle()

    def _place(self, organization_id: int, mapped: Mapped) -> asyncio.Semaphore:
        """Half of what a source is asked to bear: questions must get through beside long retrievals."""
        key = organization_id, mapped.source.id
        if key not in self._places:
            self._places[key] = asyncio.Semaphore(max(mapped.source.limits.at_once // 2, 1))
        return self._places[key]

    def close(self) -> None:
        self._under_way.cancel()


class _Arrivals(Generic[H]):
    """Of one source, for one retrieval; implements ``keeping.Arrivals``."""

    def __init__(
        self,
        retrieval: Retrieval[H],
        at_hand: AtHand[H],
        study: StudyKey,
        source: SourceKey,
        given: Counter[SourceKey],
        *,
        keep: bool,
    ) -> None:
        self._retrieval = retrieval
        self._at_hand = at_hand
        self._study = study
        self._source = source
        self._given = given
        self.keep = keep
        self.wanted = retrieval.wanted
        self.reads_archive = retrieval.archive_agrees
        self.expects = retrieval.expects
        self.refused = retrieval.refused
        self.broke = retrieval.broke

    def came(self, one: H) -> None:
        if self._retrieval.came(one):
            self._at_hand.hold(self._study, one)
            self._given[self._source] += 1


def uses_archive(set_up: SetUp) -> bool:
    """Whether what the archive has may stand for what a source has."""
    return set_up.configuration.keep_retrieved or any(
        one.source.type is SourceType.LOCAL for one in set_up.sources
    )


def _nowhere(wanted: Wanted, missing: Sequence[Outcome]) -> IsocenterError:
    """That nobody has it can only be said if all have answered."""
    what = "instance" if wanted.instance_uids else "series" if wanted.series_uids else "study"
    if missing:
        by_source = {one.source.id: one for one in missing}
        return SpanningFailed(
            f"The archives that answered do not have that {what}:", list(by_source.values())
        )
    return NotFound(f"None of the archives has that {what}.", code=f"no-such-{what}")


async def _heard_of(giving: Coroutine[Any, Any, None], landing: Landing, *, silence_s: float) -> None:
    """``giving`` to its end, unless the source falls silent. Raises SourceFailed."""
    task = asyncio.create_task(giving)
    try:
        while True:
            heard = landing.heard
            done, _ = await asyncio.wait({task}, timeout=silence_s)
            if done:
                task.result()
                return
            if landing.heard == heard:
                raise SourceFailed(Ended.TIMED_OUT, f"nothing was heard of it for {silence_s:g} s")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
