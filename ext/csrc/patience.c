#include "patience.h"

enum { MOST_PASSED = 63 };

bool rw_patience_allows(struct rw_patience *patience) {
    if (patience->passed == 0)
        return true;
    patience->passed--;
    return false;
}

void rw_patience_learn(struct rw_patience *patience, bool paid) {
    if (paid) {
        patience->penalty /= 2;
    } else {
        if (patience->penalty < MOST_PASSED)
            patience->penalty = 2 * patience->penalty + 1;
        patience->passed = patience->penalty;
    }
}
