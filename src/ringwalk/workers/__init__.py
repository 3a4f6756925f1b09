"""Worker processes: how they start, what they run, how they are watched.

    pool        shared memory + a crew; one map after another
      crew        persistent: template -> workers       lanes: lane -> child a task
      loop        claim, run the segment, commit        (in the worker)
      job         a map's arguments, as columns         (both sides)

The parent's side of a map is ``ringwalk.mappers.transaction``.
"""
