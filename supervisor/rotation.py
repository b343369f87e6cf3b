"""The secrets that frames are checked against, changed while nodes go on sending (design 02, *Keys*)."""

from vmwatch.shared.keys import node_key, same_mac
from vmwatch.supervisor.receiver import Authenticator


class Keys(Authenticator):
    """An authenticator whose secrets a SIGHUP may change."""

    def change(self, secret: str, secret_previous: str = "") -> None:
        """From now on these are valid, and no other.

        Each node is still answered with the key of its last valid frame, as long as that key remains valid: it must
        be able to check the acknowledgements of what it sent before it has the new secret.
        """
        self._secrets = [secret, secret_previous] if secret_previous else [secret]
        self.forget([node for node, key in self._keys.items() if not self._is_valid(node, key)])

    def _is_valid(self, node: str, key: bytes) -> bool:
        return any(same_mac(key, node_key(secret, node)) for secret in self._secrets)
