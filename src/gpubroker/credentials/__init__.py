"""Where keys of clouds are found: configuration, environment, .env, login, keyring, vendors' files.

Every source answers with what it found and where; none writes a key anywhere but `login`. Light to
import: what opens a seal, a keyring or TOML is imported where it is used.
"""
