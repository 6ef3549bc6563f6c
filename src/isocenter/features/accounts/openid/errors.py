"""What can go wrong between a person, their identity provider and us.

What a provider writes (error_description, bodies) is repeated nowhere: anybody may have written it.
"""

from __future__ import annotations

from isocenter.kit.errors import Forbidden, InvalidInput, NotFound, Unauthenticated, Unavailable


class InvalidProvider(InvalidInput):
    """Settings of a provider that cannot work or must not."""

    default_code = "invalid-identity-provider"


class NoSuchProvider(NotFound):
    """Also for one that is switched off, and for another organisation's, in the same words."""

    default_code = "no-such-identity-provider"

    def __init__(self) -> None:
        super().__init__(
            "There is no such identity provider.", remedy="'isocenter idp list' shows those there are."
        )


class ProviderUnreachable(Unavailable):
    """It does not answer, or not in time."""

    default_code = "identity-provider-unreachable"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The identity provider cannot be reached: {why}.",
            remedy="Try again in a moment; 'isocenter idp test' says what is wrong.",
        )


class ProviderBroken(Unavailable):
    """It answers, but not as OpenID Connect wants it, or is set up for something else than we are."""

    default_code = "identity-provider-broken"

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(
            f"The identity provider does not do what it has to: {what}.",
            remedy=remedy or "An administrator finds out more with 'isocenter idp test'.",
        )


class LoginExpired(Unauthenticated):
    """Never begun, begun in another browser, used before or too old: one answer for all of these."""

    default_code = "openid-login-expired"

    def __init__(self) -> None:
        super().__init__(
            "This login was not begun in this browser, took more than ten minutes or is over.",
            remedy="Begin again, and let the browser keep this site's cookies.",
        )


class LoginDeclined(Unauthenticated):
    """The provider itself said no."""

    default_code = "openid-login-declined"

    def __init__(self, error: str) -> None:
        super().__init__(
            f"The identity provider did not log you in ({error}).",
            remedy="Try again; if it stays, ask whoever runs the identity provider.",
        )


class AnswerRefused(Unauthenticated):
    """What the provider sent proves nothing. ``why`` is for the audit trail: whoever forges learns little."""

    default_code = "openid-answer-refused"

    def __init__(self, why: str) -> None:
        super().__init__(
            "The identity provider's answer does not prove who you are.",
            remedy="Begin again; if it stays, the audit trail tells an administrator why.",
        )
        self.why = why


class PersonRefused(Unauthenticated):
    """Unknown, disabled, no role, a foreign domain: one answer for all; ``why`` is for the audit trail."""

    default_code = "openid-login-refused"

    def __init__(self, why: str) -> None:
        super().__init__(
            "The identity provider knows you, but you are not let in here.",
            remedy="Ask an administrator: the audit trail tells them why.",
        )
        self.why = why


class OperatorsStayOut(Forbidden):
    """Whoever runs an organisation's provider could make themselves operator of the whole installation."""

    default_code = "operator-identity"

    def __init__(self) -> None:
        super().__init__(
            "Operators do not log in by an organisation's identity provider.",
            remedy="They log in with password and second factor; daily work wants an account of its own.",
        )
