"""Whether two rows tell of the same patient. In doubt they do not: two rows cost a glance, two patients in
one row cost more."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from isocenter.dicom.person_name import search_key
from isocenter.dicom.tags import ISSUER_OF_PATIENT_ID, PATIENT_ID
from isocenter.features.spanner.rows import Row, first_value

_PATIENT_NAME = 0x00100010
_BIRTH_DATE = 0x00100030
_SEX = 0x00100040
_WORDS_MIN = 2
_TELLING = (ISSUER_OF_PATIENT_ID, PATIENT_ID, _PATIENT_NAME, _BIRTH_DATE, _SEX)


@dataclass(frozen=True, slots=True)
class Person:
    """``issuer``: who gave out the ID, as the row or else its source says it; empty: nobody knows."""

    issuer: str
    patient_id: str
    name: str
    birth_date: str
    sex: str

    @property
    def is_told(self) -> bool:
        return bool(self.patient_id or self.name)


def person_of(row: Row, issuer_default: str) -> Person:
    return _person(tuple(row.get(tag, "") for tag in _TELLING), issuer_default)


@lru_cache(maxsize=4096)
def _person(attributes: tuple[str, ...], issuer_default: str) -> Person:
    """Many rows are of few patients, and the same ones come from several sources."""
    issuer, patient_id, name, birth_date, sex = (first_value({0: one}, 0) for one in attributes)
    return Person(issuer or issuer_default, patient_id, search_key(name), birth_date, sex.upper())


def same_in_one_study(one: Person, other: Person) -> bool:
    """Both rows name the same study, which speaks for it.

    Within one domain of IDs the ID decides. Otherwise nothing may contradict, and names must be equal, or
    birth dates with names that fit: twins share family name and birth date. Where a domain is not known, an
    equal ID counts as well, also with another family name.
    """
    if not one.is_told or not other.is_told:
        return True
    if one.issuer and one.issuer == other.issuer and one.patient_id and other.patient_id:
        return one.patient_id == other.patient_id
    if _contradict(one.birth_date, other.birth_date) or _contradict(one.sex, other.sex):
        return False
    born_alike = bool(one.birth_date) and one.birth_date == other.birth_date
    names_fit = not one.name or not other.name or _fit(one.name, other.name)
    is_domain_known = bool(one.issuer and other.issuer)
    if one.patient_id and one.patient_id == other.patient_id and not is_domain_known:
        return names_fit or (born_alike and _given_name(one.name) == _given_name(other.name))
    return (bool(one.name) and one.name == other.name) or (born_alike and names_fit)


def same_patient(one: Person, other: Person) -> bool:
    """Nothing speaks for it but what the rows say: issuer and ID (PS3.3 C.7.1.1), or, where one of them does
    not tell the issuer, the ID together with name and birth date."""
    if one.patient_id != other.patient_id or not one.patient_id:
        return False
    if one.issuer and other.issuer:
        return one.issuer == other.issuer
    return bool(one.name and one.birth_date) and (one.name, one.birth_date) == (other.name, other.birth_date)


def _fit(one: str, other: str) -> bool:
    """Whether the shorter name is how the longer one begins, to the word's beginning: archives leave out
    middle names, titles and writing systems, and write initials. A family name alone could be anybody's."""
    if one == other:
        return True
    words, others = (name.partition("=")[0].replace("^", " ").split() for name in (one, other))
    begins = (a.startswith(b) or b.startswith(a) for a, b in zip(words, others, strict=False))
    return min(len(words), len(others)) >= _WORDS_MIN and all(begins)


def _given_name(name: str) -> str:
    return name.partition("=")[0].partition("^")[2].partition("^")[0]


def _contradict(one: str, other: str) -> bool:
    return bool(one and other) and one != other
