"""Retrieving through a configuration: who has it, and the best of them gives it, once for all who ask."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Coroutine, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

from isocenter.features.spanner.adapters import Adapters
from isocenter.features.spanner.asking import Asking
from isocenter.features.spanner.breaker import BreakerState
from isocenter.features.spanner.configurations import SetUp
from isocenter.features.spanner.entries import Mapped, SourceType
from isocenter.features.spanner.failures import Ended, SourceFailed
from isocenter.features.spanner.measures import SourceKey
from isocenter.features.spanner.persons import person_of, same_in_one_study
from isocenter.features.spanner.retrieval.keeping import H, Keeper, Landing
from isocenter.features.spanner.retrieval.orders import Order
from isocenter.features.spanner.retrieval.under_way import Retrieval
from isocenter.features.spanner.retrieval.wanted import Holding, Wanted, holdings_of
from isocenter.features.spanner.service import Spanner
from isocenter.kit.clock import Clock
from isocenter.kit.errors import Conflict, NotFound

SILENCE_S_MIN = 30.0
"""A source may say nothing for as long as its questions may take, and for so long at the least: images may
have to be fetched from a tape."""

HELD_S = 900.0
"""How long objects that are not kept are at hand after they came. The sweep takes them a day later at the
latest (``sweep_grace_s``)."""

_HELD_MAX = 200_000
_STUDIES_MAX = 10_000


@dataclass(slots=True)
class _Study:
    """What was found out of a study of a configuration: that it is one patient's, and what is at hand of it
    that the archive does not keep. ``patient_agrees``: the archive's copy, if there is one, is that patient's
    too."""

    since_s: float
    patient_agrees: bool


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
        self._clock = clock
        self._silence_s_min = silence_s_min
        self._held_s = held_s
        self._under_way: dict[Hashable, Retrieval[H]] = {}
        self._recent: OrderedDict[Hashable, tuple[float, Retrieval[H]]] = OrderedDict()
        self._held: OrderedDict[tuple[int, int, str, str, str], tuple[float, H]] = OrderedDict()
        self._studies: OrderedDict[tuple[int, int, str], _Study] = OrderedDict()
        self._places: dict[SourceKey, asyncio.Semaphore] = {}
        self.given: Counter[SourceKey] = Counter()
        """Objects by the source that gave them."""

    async def begin(self, organization_id: int, config_id: int, wanted: Wanted) -> Retrieval[H]:
        """Hold an interest in it. Raises NotFound where no source has it, Conflict where sources tell of two
        patients, SpanningFailed as the configuration has it, InvalidInput, Unavailable."""
        set_up = await self._spanner.set_up(organization_id, config_id)
        key = (organization_id, config_id, set_up.configuration.version, wanted)
        known = self._under_way.get(key) or self._recently(key, set_up.configuration.cache_seconds)
        if known is not None:
            return known
        retrieval = await self._located(organization_id, set_up, wanted)
        known = self._under_way.get(key)  # somebody else may have asked meanwhile
        if known is not None:
            return known
        self._under_way[key] = retrieval
        retrieval.start(
            partial(self._fetch, organization_id, set_up, retrieval), partial(self._over, key, retrieval)
        )
        return retrieval

    async def holdings(self, organization_id: int, config_id: int, wanted: Wanted) -> Sequence[Holding]:
        """Who has what of it; nothing is retrieved. Raises as `begin` does."""
        set_up = await self._spanner.set_up(organization_id, config_id)
        return (await self._located(organization_id, set_up, wanted)).holdings

    def at_hand(self, organization_id: int, config_id: int, wanted: Wanted) -> H | None:
        """One instance that came of late and is not kept."""
        [series_uid], [uid] = wanted.series_uids, wanted.instance_uids
        found = self._held.get((organization_id, config_id, wanted.study_uid, series_uid, uid))
        if found is None or self._is_stale(found[0]):
            return None
        return found[1]

    async def read_here(self, organization_id: int, config_id: int, wanted: Wanted) -> Sequence[H]:
        """What the archive has of it, if it was found of late that sources mean the same by that study."""
        set_up = await self._spanner.set_up(organization_id, config_id)
        known = self._studies.get((organization_id, config_id, wanted.study_uid))
        if known is None or self._is_stale(known.since_s) or not known.patient_agrees:
            return []
        return await self._keeper.here(organization_id, wanted) if uses_archive(set_up) else []

    # ---- who has it

    async def _located(self, organization_id: int, set_up: SetUp, wanted: Wanted) -> Retrieval[H]:
        studies, instances = await asyncio.gather(
            self._spanner.gather(organization_id, set_up, wanted.study_question()),
            self._spanner.gather(organization_id, set_up, wanted.question()),
        )
        agrees = await self._one_patient(organization_id, set_up, wanted, studies)
        holdings = holdings_of(wanted, instances.joined())
        outcomes = instances.so_far().outcomes
        if not holdings:
            what = "instance" if wanted.instance_uids else "series" if wanted.series_uids else "study"
            raise NotFound(f"No archive that answered has that {what}.", code=f"no-such-{what}")
        retrieval = Retrieval[H](
            wanted,
            holdings,
            [one.source for one in self._ranked(organization_id, set_up)],
            outcomes,
            attempts_max=1 + set_up.configuration.retry_attempts,
        )
        expected = {one.key for one in holdings}
        for one in await self._at_hand(organization_id, set_up, wanted, agrees=agrees):
            if (one.series_instance_uid, one.sop_instance_uid) in expected:
                retrieval.came(one)
        return retrieval

    async def _one_patient(
        self, organization_id: int, set_up: SetUp, wanted: Wanted, studies: Asking
    ) -> bool:
        """Whether the archive's copy is the same patient's. Raises Conflict where the sources' are not."""
        answers = studies.joined()
        if len(answers) > 1:
            names = {mapped.source.id: mapped.source.name for mapped in set_up.sources}
            said = "; ".join(", ".join(names[found] for found in answer.found_in) for answer in answers)
            raise Conflict(
                f"Archives tell of different patients under that Study Instance UID: {said}.",
                code="study-of-two-patients",
                remedy="Retrieve it from the archive that is right, and have the other corrected.",
            )
        agrees = False
        if uses_archive(set_up):
            here = await self._keeper.patient_here(organization_id, wanted.study_uid)
            issuers = {mapped.source.id: mapped.source.issuer for mapped in set_up.sources}
            agrees = here is None or all(
                same_in_one_study(here, person_of(answer.row, issuers.get(answer.found_in[0], "")))
                for answer in answers
            )
        key = organization_id, set_up.configuration.id, wanted.study_uid
        self._studies[key] = _Study(self._clock.monotonic_s(), agrees)
        self._studies.move_to_end(key)
        while len(self._studies) > _STUDIES_MAX:
            self._studies.popitem(last=False)
        return agrees

    async def _at_hand(
        self, organization_id: int, set_up: SetUp, wanted: Wanted, *, agrees: bool
    ) -> Sequence[H]:
        config_id = set_up.configuration.id
        found = [
            one
            for (org, config, study, series, uid), (since_s, one) in self._held.items()
            if (org, config, study) == (organization_id, config_id, wanted.study_uid)
            and wanted.includes(series, uid)
            and not self._is_stale(since_s)
        ]
        if agrees and uses_archive(set_up):
            found = [*await self._keeper.here(organization_id, wanted), *found]
        return found

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
        arrivals = _Arrivals(self, organization_id, set_up, source.id, retrieval)
        landing = self._keeper.landing(
            organization_id, source, retrieval.wanted, arrivals, keep=set_up.configuration.keep_retrieved
        )
        timeout_s = mapped.timeout_override or set_up.configuration.timeout_seconds
        async with self._place(organization_id, mapped):
            try:
                adapter = self._adapters.of(organization_id, source)
                await _heard_of(
                    adapter.fetch(order, landing), landing, silence_s=max(timeout_s, self._silence_s_min)
                )
            except SourceFailed as failure:
                self._spanner.turnstile(organization_id, source).failed(failure)
                raise
            finally:
                await landing.settle()

    @property
    def _adapters(self) -> Adapters:
        return self._spanner.adapters

    def _place(self, organization_id: int, mapped: Mapped) -> asyncio.Semaphore:
        """Half of what a source is asked to bear: questions must get through beside long retrievals."""
        key = organization_id, mapped.source.id
        if key not in self._places:
            self._places[key] = asyncio.Semaphore(max(mapped.source.limits.at_once // 2, 1))
        return self._places[key]

    def hold(self, organization_id: int, config_id: int, one: H) -> None:
        """For who asks for that instance next."""
        key = (
            organization_id,
            config_id,
            one.study_instance_uid,
            one.series_instance_uid,
            one.sop_instance_uid,
        )
        self._held[key] = self._clock.monotonic_s(), one
        self._held.move_to_end(key)
        while len(self._held) > _HELD_MAX or self._is_stale(next(iter(self._held.values()))[0]):
            self._held.popitem(last=False)

    # ---- who asks the same

    def _over(self, key: Hashable, retrieval: Retrieval[H]) -> None:
        if self._under_way.get(key) is retrieval:
            del self._under_way[key]
        if retrieval.is_complete and not any(one.is_missing for one in retrieval.outcomes):
            self._recent[key] = self._clock.monotonic_s(), retrieval
            while len(self._recent) > _STUDIES_MAX:
                self._recent.popitem(last=False)

    def _recently(self, key: Hashable, age_max_s: float) -> Retrieval[H] | None:
        now_s = self._clock.monotonic_s()
        while self._recent and now_s - next(iter(self._recent.values()))[0] >= age_max_s:
            self._recent.popitem(last=False)
        found = self._recent.get(key)
        return None if found is None else found[1]

    def _is_stale(self, since_s: float) -> bool:
        return self._clock.monotonic_s() - since_s >= self._held_s

    def close(self) -> None:
        for retrieval in list(self._under_way.values()):
            retrieval.cancel()


class _Arrivals(Generic[H]):
    """Of one source, for one retrieval; implements ``keeping.Arrivals``."""

    def __init__(
        self,
        retrievals: Retrievals[H],
        organization_id: int,
        set_up: SetUp,
        source_id: int,
        retrieval: Retrieval[H],
    ) -> None:
        self._retrievals = retrievals
        self._organization_id = organization_id
        self._config_id = set_up.configuration.id
        self._source_id = source_id
        self._retrieval = retrieval
        self.expects = retrieval.expects
        self.refused = retrieval.refused
        self.broke = retrieval.broke

    def came(self, one: H) -> None:
        if self._retrieval.came(one):
            self._retrievals.hold(self._organization_id, self._config_id, one)
            self._retrievals.given[self._organization_id, self._source_id] += 1


def uses_archive(set_up: SetUp) -> bool:
    """Whether what the archive has may stand for what a source has."""
    return set_up.configuration.keep_retrieved or any(
        one.source.type is SourceType.LOCAL for one in set_up.sources
    )


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
