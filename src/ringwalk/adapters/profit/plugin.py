"""For proFit's ``include:``: makes the label ``ringwalk`` known, in profit and in its workers."""

import ringwalk.adapters.profit  # noqa: F401
