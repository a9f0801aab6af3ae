"""
Who may do what: tokens, API keys, and what they permit.

:mod:`.patterns`, :mod:`.grants`, :mod:`.keys`, :mod:`.tokens`, :mod:`.api_keys`, :mod:`.rates` and :mod:`.headers` are
pure; :mod:`.jwks` fetches keys, and :mod:`.authenticator` is what a service asks.
"""

from loopcast.auth.authenticator import Authenticator
from loopcast.auth.grants import ANYBODY, Grants, Rate
from loopcast.auth.headers import CHALLENGE, bearer
from loopcast.auth.patterns import Patterns
from loopcast.auth.rates import Bucket, Buckets

__all__ = ["ANYBODY", "CHALLENGE", "Authenticator", "Bucket", "Buckets", "Grants", "Patterns", "Rate", "bearer"]
