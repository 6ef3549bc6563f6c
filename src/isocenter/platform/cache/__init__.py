"""What several processes share that may be lost: counters in a Redis or Valkey (:mod:`.redis`)."""

from isocenter.platform.cache.redis import RedisAway, RedisLink, open_redis

__all__ = ["RedisAway", "RedisLink", "open_redis"]
