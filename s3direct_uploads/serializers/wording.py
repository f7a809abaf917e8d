"""REST Framework's own texts that an answer may contain, so that our catalogues have them.

REST Framework has Korean only for "ko-kr". Django's usual name of the language is "ko", for which
an answer would be half in English.
"""

from __future__ import annotations

from django.utils.translation import gettext_noop as _
from django.utils.translation import ngettext

TEXTS = (
    # Of Django, which REST Framework quotes.
    _("CSRF token missing."),
    _("CSRF cookie not set."),
    _("CSRF token from POST incorrect."),
    _("CSRF token from the 'X-Csrftoken' HTTP header incorrect."),
    _("CSRF token from the 'X-Csrftoken' HTTP header has incorrect length."),
    # Of REST Framework.
    _("Authentication credentials were not provided."),
    _("Incorrect authentication credentials."),
    _("User inactive or deleted."),
    _("Invalid username/password."),
    _("Invalid basic header. No credentials provided."),
    _("Invalid basic header. Credentials string should not contain spaces."),
    _("Invalid basic header. Credentials not correctly base64 encoded."),
    _("Invalid token."),
    _("Invalid token header. No credentials provided."),
    _("Invalid token header. Token string should not contain spaces."),
    _("Invalid token header. Token string should not contain invalid characters."),
    _("You do not have permission to perform this action."),
    _("Not found."),
    _("Malformed request."),
    _("A server error occurred."),
    _('Method "{method}" not allowed.'),
    _('Unsupported media type "{media_type}" in request.'),
    _("Could not satisfy the request Accept header."),
    _("Request was throttled."),
    _("Invalid cursor"),
    _("Invalid input."),
    _("Invalid data. Expected a dictionary, but got {datatype}."),
    _('Expected a list of items but got type "{input_type}".'),
    _('Expected a dictionary of items but got type "{input_type}".'),
    _("This list may not be empty."),
    _("This dictionary may not be empty."),
    _("This field may not be null."),
    _("This field may not be blank."),
    _("Not a valid string."),
    _("Must be a valid boolean."),
    _("A valid integer is required."),
    _("String value too large."),
    _('"{input}" is not a valid choice.'),
    _("Ensure this value is less than or equal to {max_value}."),
    _("Ensure this value is greater than or equal to {min_value}."),
    _("Ensure this field has no more than {max_length} characters."),
    _("Ensure this field has no more than {max_length} elements."),
    _("Ensure this field has at least {min_length} characters."),
    _("Ensure this field has at least {min_length} elements."),
    _("Surrogate characters are not allowed: U+{code_point:X}."),
)


def wait(seconds: int) -> str:
    """What REST Framework says of a request that was throttled."""
    return ngettext(
        "Expected available in {wait} second.", "Expected available in {wait} seconds.", seconds
    )
