"""The loop over the elements of a data set, one for each kind of VR: the hot path of every ingest."""

from __future__ import annotations

import struct
from itertools import repeat
from mmap import mmap

from isocenter.dicom.encoding import UNDEFINED_LENGTH, Buffer, Encoding, odd_header
from isocenter.dicom.extents import skip_undefined, walk_fragments
from isocenter.dicom.scan_limits import TOO_LARGE_HEADER, TRUNCATED, ScanError, ScanLimits
from isocenter.dicom.scan_model import PIXEL_TAGS, PixelData, RawElement, Wanted
from isocenter.dicom.sequence_encoding import items_as_little_endian

_STOPPED = -1


class HeaderWalk:
    """One walk over ``data`` from a data set's first byte up to the last wanted tag.

    With ``more_may_follow`` the buffer is the beginning of something longer: native Pixel Data may then
    reach over its end.
    """

    __slots__ = (
        "_data",
        "_encoding",
        "_end",
        "_found",
        "_limits",
        "_more_may_follow",
        "_pixel_data",
        "_steps_left",
        "_wanted",
    )

    def __init__(
        self,
        data: Buffer,
        encoding: Encoding,
        wanted: Wanted,
        limits: ScanLimits,
        *,
        more_may_follow: bool = False,
    ) -> None:
        self._data = data
        self._end = len(data)
        self._encoding = encoding
        self._wanted = wanted
        self._limits = limits
        self._more_may_follow = more_may_follow
        self._steps_left = limits.elements_max
        self._found: dict[int, RawElement] = {}
        self._pixel_data: PixelData | None = None

    def run(self, start: int) -> tuple[dict[int, RawElement], PixelData | None]:
        """The wanted elements, and Pixel Data where wanted. Raises :class:`ScanError`."""
        try:
            pos = self._implicit(start) if self._encoding.implicit_vr else self._explicit(start)
        except struct.error:
            raise self._truncated("An element header ends early", self._end + 1, None) from None
        end = self._end
        if pos > end:
            raise self._truncated("The data set ends early", pos, None)
        # Some writers pad the file with nulls; other bytes are the beginning of an element.
        if pos != _STOPPED and (self._more_may_follow or bytes(self._data[pos:]).strip(b"\0")):
            raise self._truncated("An element header ends early", pos + 8, None)
        return self._owned(), self._pixel_data

    def _owned(self) -> dict[int, RawElement]:
        """What was found, as bytes of its own: slices of ``bytes`` and ``mmap`` are that already."""
        if isinstance(self._data, (bytes, mmap)):
            return self._found
        return {tag: RawElement(vr, bytes(value)) for tag, (vr, value) in self._found.items()}

    def _explicit(self, pos: int) -> int:
        data, end, found = self._data, self._end, self._found
        encoding, last = self._encoding, self._wanted.last
        tags = self._wanted.by_key(encoding)
        group_mask = encoding.group_mask
        last_group = encoding.key_of(last) & group_mask
        new = tuple.__new__  # half the time of RawElement(), and this is where the time goes
        unpack = encoding.keyed_short.unpack_from
        short_vrs = encoding.short_vrs
        try:
            for _ in repeat(None, self._limits.elements_max):
                key, word, length = unpack(data, pos)
                if word in short_vrs:
                    pos += 8 + length
                    if key in tags:
                        if pos > end:
                            raise self._truncated("A value ends early", pos, tags[key])
                        found[tags[key]] = new(RawElement, (short_vrs[word], data[pos - length : pos]))
                    elif key & group_mask >= last_group and encoding.tag_of(key) > last:
                        return _STOPPED
                    continue
                tag = encoding.tag_of(key)
                # Eight nulls are padding of the file, not an element.
                if tag > last or not (key or word or length):
                    return _STOPPED
                pos = self._long_element(pos, tag, word)
                if pos == _STOPPED:
                    return pos
        except struct.error:
            return pos
        raise self._too_many(pos)

    def _long_element(self, pos: int, tag: int, word: int) -> int:
        encoding, data = self._encoding, self._data
        vr = encoding.long_vrs.get(word)
        if vr is not None:
            value = pos + 12
            if value > self._end:
                raise self._truncated("An element header ends early", value, tag)
            length = encoding.long.unpack_from(data, pos + 8)[0]
        else:
            vr, value, length = odd_header(data, pos, self._end, encoding)
        if length == UNDEFINED_LENGTH or tag in self._wanted.looked_for:
            return self._keep(tag, vr, value, length)
        return int(value + length)

    def _implicit(self, pos: int) -> int:
        data, end, found = self._data, self._end, self._found
        encoding, last = self._encoding, self._wanted.last
        tags = self._wanted.by_key(encoding)
        group_mask = encoding.group_mask
        last_group = encoding.key_of(last) & group_mask
        new = tuple.__new__
        unpack = encoding.keyed_wide.unpack_from
        vrs, simple_max = self._wanted.vrs, self._limits.value_bytes_max
        try:
            for _ in repeat(None, self._limits.elements_max):
                key, length = unpack(data, pos)
                pos += 8
                if key in tags:
                    tag = tags[key]
                    vr = vrs[tag]
                    if length <= simple_max and tag not in PIXEL_TAGS and vr != "SQ" and pos + length <= end:
                        found[tag] = new(RawElement, (vr, data[pos : pos + length]))
                        pos += length
                    else:
                        pos = self._keep(tag, vr, pos, length)
                        if pos == _STOPPED:
                            return pos
                elif key & group_mask >= last_group and encoding.tag_of(key) > last:
                    return _STOPPED
                elif length == UNDEFINED_LENGTH:
                    pos = self._keep(encoding.tag_of(key), "", pos, length)
                else:
                    if not (key or length):
                        return _STOPPED
                    pos += length
        except struct.error:
            return pos
        raise self._too_many(pos)

    def _keep(self, tag: int, vr: str, value: int, length: int) -> int:
        """Take (or pass over) an element that needs thought; the position after it, or ``_STOPPED``."""
        wanted = tag in self._wanted.looked_for
        if wanted and tag in PIXEL_TAGS:
            return self._keep_pixel_data(tag, vr, value, length)
        unlabelled = vr == "UN" and not self._encoding.implicit_vr
        if wanted and (not vr or (unlabelled and not self._encoding.big_endian)):
            vr = self._wanted.vrs[tag]
        if length == UNDEFINED_LENGTH:
            if vr not in ("OB", "OW"):
                vr = "SQ"  # PS3.5 §6.2.2: nothing else has an undefined length
            content_end, after, steps = skip_undefined(
                self._data,
                value,
                self._encoding,
                tag=tag,
                steps_max=self._steps_left,
                depth_max=self._limits.depth_max,
                unlabelled=unlabelled,
            )
            self._steps_left -= steps  # one limit for all sequences of the data set
        else:
            content_end = after = value + length
        if wanted:
            if after > self._end:
                raise self._truncated("A value ends early", after, tag)
            if content_end - value > self._limits.value_bytes_max:
                raise ScanError(TOO_LARGE_HEADER, "A value is too long", offset=value, tag=tag)
            content = bytes(self._data[value:content_end])
            if vr == "SQ" and (unlabelled or self._encoding.big_endian):
                try:
                    content = items_as_little_endian(
                        content, self._encoding, self._limits, unlabelled=unlabelled
                    )
                except ScanError:
                    if not unlabelled:
                        raise
                    vr = "UN"  # a claim of the dictionary that the bytes do not bear out
            self._found[tag] = RawElement(vr, content)
        return after

    def _keep_pixel_data(self, tag: int, vr: str, value: int, length: int) -> int:
        if length == UNDEFINED_LENGTH:
            fragments = walk_fragments(self._data, value, self._encoding, tag=tag, limits=self._limits)
            self._pixel_data = PixelData(
                tag,
                "OB" if vr in ("", "UN") or self._encoding.implicit_vr else vr,
                value,
                fragments.length,
                True,
                fragments.offsets,
                fragments.lengths,
                fragments.basic_offset_table,
            )
            after = fragments.after
            self._steps_left -= len(fragments.offsets)
        else:
            after = value + length
            if after > self._end and not self._more_may_follow:
                raise self._truncated("Pixel Data ends early", after, tag)
            self._pixel_data = PixelData(
                tag, self._wanted.vrs[tag] if vr in ("", "UN") else vr, value, length
            )
        return _STOPPED if self._wanted.last in PIXEL_TAGS else after

    def _truncated(self, what: str, needed_bytes: int, tag: int | None) -> ScanError:
        return ScanError(TRUNCATED, what, offset=self._end, tag=tag, needed_bytes=needed_bytes)

    def _too_many(self, pos: int) -> ScanError:
        return ScanError(TOO_LARGE_HEADER, "The data set has too many elements", offset=pos)
