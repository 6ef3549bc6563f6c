"""UPS-RS (PS3.18 §11): the transactions on workitems and subscriptions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote, unquote_plus

from starlette.requests import Request
from starlette.responses import Response

from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.workitem_bodies import answer_with, one_value, read_data_set
from isocenter.doors.http.refusals import InvalidParameter
from isocenter.doors.http.services import HttpServices
from isocenter.doors.http.witness import Told, Witness, caller
from isocenter.features.worklist.matching import keys_of_parameters
from isocenter.features.worklist.subscriptions import Subscriptions
from isocenter.features.worklist.workitems import Workitems
from isocenter.kit.errors import IsocenterError
from isocenter.platform.security import Action

_TRANSACTION_UID, _STATE = "00081195", "00741000"
_TRANSACTION_PARAMETERS = ("transaction", "transaction-uid", "transactionuid")
_UID_PARAMETERS = ("workitem", "affectedsopinstanceuid")
_NOT_KEYS = frozenset({"accept", "charset", "limit", "offset", "includefield", "fuzzymatching"})
_AE_TITLE_CHARS_MAX = 16
_DIGITS_MAX = 9
_LIMIT_DEFAULT = 1000

Told_ = Callable[[Request, Told], Awaitable[Response]]


class WorkitemTransactions:
    """The endpoints; each is told to the trail, and a refusal says the standard's words in a Warning."""

    def __init__(
        self,
        services: HttpServices,
        addresses: Addresses,
        workitems: Workitems,
        subscriptions: Subscriptions,
    ) -> None:
        self._services = services
        self._addresses = addresses
        self._workitems = workitems
        self._subscriptions = subscriptions
        self._witness = Witness(services.recorder, "workitem")

    async def create(self, request: Request) -> Response:
        async def run(request: Request, told: Told) -> Response:
            given = await read_data_set(request)
            uid = named_in_query(request, _UID_PARAMETERS)
            created = await self._workitems.create(_organization(request), given, uid)
            told["workitem"] = created.uid
            headers = {"location": f"{self._addresses.base(request)}/workitems/{created.uid}"}
            if created.modified:
                headers |= self._warning(request, "The Workitem was created with modifications.")
            return Response(None, 201, headers)

        return await self._witnessed(request, Action.STORE, run)

    async def search(self, request: Request) -> Response:
        async def run(request: Request, told: Told) -> Response:
            pairs = request.query_params.multi_items()
            keys = keys_of_parameters([(name, value) for name, value in pairs if name not in _NOT_KEYS])
            told |= {name: value for name, value in pairs if name not in _NOT_KEYS}
            most = self._services.limits.search_results_max
            limit = min(_number(request, "limit", _LIMIT_DEFAULT), most)
            found = await self._workitems.search(
                _organization(request), keys, limit=limit, offset=_number(request, "offset", 0)
            )
            told["answers"] = len(found.workitems)
            warnings = []
            if request.query_params.get("fuzzymatching") == "true":
                warnings.append(_NOT_FUZZY)
            if found.more:
                warnings.append(f"There are more results than the {limit} given; ask on with offset.")
            headers = self._warning(request, *warnings) if warnings else None
            return answer_with(request, found.workitems, single=False, headers=headers)

        return await self._witnessed(request, Action.SEARCH, run)

    async def retrieve(self, request: Request) -> Response:
        async def run(request: Request, _: Told) -> Response:
            found = await self._workitems.retrieve(_organization(request), _workitem(request))
            return answer_with(request, [found], single=True)

        return await self._witnessed(request, Action.READ, run)

    async def update(self, request: Request) -> Response:
        async def run(request: Request, _: Told) -> Response:
            given = await read_data_set(request)
            # In older editions it stood in the data set.
            transaction_uid = transaction_uid_of(request) or one_value(given, _TRANSACTION_UID)
            await self._workitems.update(_organization(request), _workitem(request), given, transaction_uid)
            return Response(None, 200)

        return await self._witnessed(request, Action.CHANGE, run, durable=True)

    async def change_state(self, request: Request) -> Response:
        async def run(request: Request, told: Told) -> Response:
            given = await read_data_set(request)
            state = told["state"] = one_value(given, _STATE)
            already = await self._workitems.change_state(
                _organization(request), _workitem(request), state, one_value(given, _TRANSACTION_UID)
            )
            return Response(None, 200, self._already(request, already))

        return await self._witnessed(request, Action.CHANGE, run, durable=True)

    async def request_cancellation(self, request: Request) -> Response:
        async def run(request: Request, told: Told) -> Response:
            told["asked"] = "cancellation"
            given = await read_data_set(request, optional=True)
            already = await self._workitems.request_cancellation(
                _organization(request), _workitem(request), given, _requesting_ae(request)
            )
            return Response(None, 202, self._already(request, already))

        return await self._witnessed(request, Action.CHANGE, run, durable=True)

    async def subscribe(self, request: Request) -> Response:
        async def run(request: Request, told: Told) -> Response:
            title = told["subscriber"] = request.path_params["aetitle"]
            await self._subscriptions.subscribe(
                _organization(request),
                _workitem(request),
                title,
                deletion_lock=_truth(request, "deletionlock"),
                filtered_by=_filter(request),
            )
            channel = self._addresses.base(request).replace("http", "ws", 1)
            location = f"{channel}/subscribers/{quote(title, safe='')}"
            return Response(None, 201, {"content-location": location})

        return await self._witnessed(request, Action.CHANGE, run)

    async def unsubscribe(self, request: Request) -> Response:
        async def run(request: Request, told: Told) -> Response:
            title = told["subscriber"] = request.path_params["aetitle"]
            await self._subscriptions.unsubscribe(_organization(request), _workitem(request), title)
            return Response(None, 200)

        return await self._witnessed(request, Action.CHANGE, run)

    async def suspend(self, request: Request) -> Response:
        async def run(request: Request, told: Told) -> Response:
            title = told["subscriber"] = request.path_params["aetitle"]
            await self._subscriptions.suspend(_organization(request), _workitem(request), title)
            return Response(None, 200)

        return await self._witnessed(request, Action.CHANGE, run)

    async def _witnessed(
        self, request: Request, action: Action, run: Told_, *, durable: bool = False
    ) -> Response:
        uid = request.path_params.get("workitem", "")
        async with self._witness.of(request, action, uid, durable=durable) as told:
            try:
                return await run(request, told)
            except IsocenterError as error:
                if says := getattr(error, "says", ""):
                    error.headers = self._warning(request, says)  # type: ignore[attr-defined]
                raise

    def _already(self, request: Request, state: str | None) -> dict[str, str]:
        if state is None:
            return {}
        return self._warning(request, f"The UPS is already in the requested state of {state}.")

    def _warning(self, request: Request, *texts: str) -> dict[str, str]:
        service = self._addresses.base(request)
        return {"warning": ", ".join(f'299 {service} "{text}"' for text in texts)}


def transaction_uid_of(request: Request) -> str:
    """Of an update: ``?transaction=…``, or the bare UID that the standard's examples show."""
    return named_in_query(request, _TRANSACTION_PARAMETERS)


def named_in_query(request: Request, names: tuple[str, ...]) -> str:
    for name, value in request.query_params.multi_items():
        if name.lower() in names:
            return value
        if not value and name[:1].isdigit() and "." in name:
            return name
    return ""


def _organization(request: Request) -> int:
    organization_id: int = request.state.subject.organization_id
    return organization_id


def _workitem(request: Request) -> str:
    uid: str = request.path_params["workitem"]
    return uid


def _requesting_ae(request: Request) -> str:
    """Who asks, as far as that fits into an AE title."""
    subject = caller(request)
    plain = "".join(c for c in subject.called if c.isascii() and c.isprintable() and c != "\\")
    return plain[:_AE_TITLE_CHARS_MAX].strip() or subject.kind.value


def _filter(request: Request) -> list[tuple[str, str]]:
    """``filter=attribute=value,attribute=value`` (PS3.18 §11.10.1.2)."""
    pairs = []
    for part in request.query_params.get("filter", "").split(","):
        name, equals, value = part.partition("=")
        if equals:
            pairs.append((name.strip(), unquote_plus(value)))
        elif part.strip():
            raise InvalidParameter("filter", "A filter is a list of attribute=value, with commas between.")
    return pairs


def _number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name)
    if value is None:
        return default
    if not value.isdecimal() or not value.isascii() or len(value) > _DIGITS_MAX:
        raise InvalidParameter(name, f"{name} is a number of at most {_DIGITS_MAX} digits.")
    return int(value)


def _truth(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false").lower()
    if value not in {"true", "false"}:
        raise InvalidParameter(name, f"{name} is true or false.")
    return value == "true"


# The words of PS3.18 §8.3.4.2.
_NOT_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
