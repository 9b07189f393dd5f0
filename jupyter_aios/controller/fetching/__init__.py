"""Requests that the controller sends for a job, with a secret that the job never sees.

A rank, or any HTTP client that speaks Unix sockets, asks at the attempt's socket::

    curl --unix-socket "$AIOS_FETCH_SOCKET" "http://aios/HUB/models/x.bin?rev=2"

and the request goes to the secret's target, with the secret and below the target's path::

    GET https://hub.school/api/models/x.bin?rev=2
    Authorization: Bearer …

Only a secret's owner says where its value goes (`SecretInfo.target`). Here is what keeps it there:

1. `guard` (pure): the path stays below the target, headers of the job cannot stand in for ours.
2. `asking`: what is not plainly one HTTP/1.1 request is refused, so no second one hides in it.
3. `outward`: the certificate is checked, and addresses that no target has are refused.
4. `exchange`: policy is asked for each request, the use is in the audit before the answer goes on,
   redirects are handed back, and a value that the server echoes is taken out of the answer.
5. `proxy`: a socket per attempt, for its user only, with its own threads; it ends with the job.

What is not promised: a target that wants to tell the value to the job can (in another spelling,
or piece by piece in answers to range requests). The owner trusts a target with the value.

A header other than Authorization would be one more field of `SecretInfo` (`X-Api-Key: {}`), held
by `guard.Target`; `exchange` is the only place that writes it.
"""

from jupyter_aios.controller.fetching.guard import Target, parse_target
from jupyter_aios.controller.fetching.proxy import FetchProxy

__all__ = ["FetchProxy", "Target", "parse_target"]
