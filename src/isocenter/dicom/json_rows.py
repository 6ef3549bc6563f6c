"""A query's answers as attributes in DICOM JSON: the short road for the many small data sets that there are.

Answers of one query, and of several archives to one, hold mostly the same few values (a patient's name,
modalities, empty ones), so the text of short values is kept. What is not flat, or is not Explicit VR Little
Endian, takes the long road of `dataset` and `json_dataset`, with the same outcome.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from isocenter.dicom.charsets import DEFAULT_REPERTOIRE, TextDecoder, decoder_for
from isocenter.dicom.dataset import read_dataset
from isocenter.dicom.json_dataset import dataset_json
from isocenter.dicom.json_model import KNOWN_VRS, fragment
from isocenter.dicom.tags import SPECIFIC_CHARACTER_SET
from isocenter.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN

_HEAD = struct.Struct("<HH2sH")
_LONG_HEAD_BYTES = 12
_NAME_CHARACTERS = len('"GGGGEEEE":')
_HEADS_MAX = 65536
_TEXTS_MAX = 16384
_KEPT_BYTES_MAX = 128

_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT = frozenset(vr.encode() for vr in KNOWN_VRS) - _LONG
_TWO_ROADS = frozenset({b"SQ", b"UN"})
"""Only where they are empty is there nothing more to say of them."""


def attributes_of(
    data: bytes, transfer_syntax_uid: str, decoder: TextDecoder | None = None
) -> dict[int, str]:
    """Tag → what stands after ``"GGGGEEEE":`` in DICOM JSON (PS3.18 F.2), Specific Character Set left out.

    ``decoder``: what text is in, whatever the data set declares; None: it is right. Raises ScanError for
    what is no data set.
    """
    if transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN:
        found = _flat(data, decoder)
        if found is not None:
            return found
    return _any(data, transfer_syntax_uid, decoder)


def _flat(data: bytes, fixed: TextDecoder | None) -> dict[int, str] | None:
    """None for whatever takes more than one look. Each element is looked up as the bytes that it is: that
    costs a third of reading it."""
    texts = _texts_in(fixed or DEFAULT_REPERTOIRE)
    attributes: dict[int, str] = {}
    position, end, last_tag = 0, len(data), -1
    while position < end:
        head = data[position : position + 8]
        tag, size = _heads.get(head) or _learned(head)
        if not size:  # the length is in the next four bytes
            size = int.from_bytes(data[position + 8 : position + _LONG_HEAD_BYTES], "little")
            if size and head[4:6] in _TWO_ROADS:
                return None
            size += _LONG_HEAD_BYTES
        stop = position + size
        if tag <= last_tag or stop > end:
            return None
        last_tag = tag
        if tag == SPECIFIC_CHARACTER_SET:
            texts = _texts_in(fixed or decoder_for(data[position + 8 : stop]))
        else:
            element = data[position:stop]
            attributes[tag] = texts.kept.get(element) or texts.of(element)
        position = stop
    return attributes


_heads: dict[bytes, tuple[int, int]] = {}
"""What the first eight bytes of an element say: its tag and how many bytes it takes in all, 0 where its
length is not among them."""

_NOTHING = (-1, 0)
"""No tag is smaller, so that the data set takes the long road."""


def _learned(head: bytes) -> tuple[int, int]:
    if len(head) < _HEAD.size:
        return _NOTHING
    group, number, vr, length = _HEAD.unpack(head)
    if group < 0x0008 or not number or (vr not in _SHORT and vr not in _LONG):
        return _NOTHING
    if len(_heads) >= _HEADS_MAX:
        _heads.clear()
    found = _heads[head] = group << 16 | number, _HEAD.size + length if vr in _SHORT else 0
    return found


class _Texts:
    """``kept``: elements as they are encoded → their JSON, for one character set."""

    def __init__(self, decoder: TextDecoder) -> None:
        self.kept: dict[bytes, str] = {}
        self._decoder = decoder

    def of(self, element: bytes) -> str:
        vr = element[4:6]
        value = element[_LONG_HEAD_BYTES if vr in _LONG else _HEAD.size :]
        text = '{"vr":"SQ"}' if vr == b"SQ" else _text(vr, value, self._decoder)
        if len(element) <= _KEPT_BYTES_MAX:
            if len(self.kept) >= _TEXTS_MAX:
                self.kept.clear()
            self.kept[element] = text
        return text


def _text(vr: bytes, value: bytes, decoder: TextDecoder) -> str:
    return fragment(0, vr.decode("ascii"), value, decoder)[_NAME_CHARACTERS:]


_texts_in = lru_cache(maxsize=32)(_Texts)


def _any(data: bytes, transfer_syntax_uid: str, decoder: TextDecoder | None) -> dict[int, str]:
    elements = read_dataset(data, transfer_syntax_uid)
    if decoder is None:
        declared = next((one.value for one in elements if one.tag == SPECIFIC_CHARACTER_SET), None)
        decoder = decoder_for(declared if isinstance(declared, bytes) else None)
    attributes: dict[int, str] = {}
    for element in elements:
        if element.tag == SPECIFIC_CHARACTER_SET:
            continue
        text = dataset_json([element], decoder).decode()[1:-1]
        if text:  # group lengths have none
            attributes[element.tag] = text[_NAME_CHARACTERS:]
    return attributes
