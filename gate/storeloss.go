package gate

import (
	"sync/atomic"
	"time"
)

// degradedStoreLoss is what the audit log says of a request that was let through while the store was silent.
const degradedStoreLoss = "store-loss"

// storeLoss is what a site does while its store is silent. A ward may have to go on reading through an outage for which a bank
// would rather close; that is the operator's decision, in writing, for each site. What is tolerated is not to know of revocations
// on other nodes: only sessions that this node had verified before the store fell silent go on (session.Manager.Find), none
// begins, and their own ends hold.
type storeLoss struct {
	tolerate time.Duration
	requests atomic.Uint64 // let through so
}

// tolerated reports whether a request may go on after that much silence, and counts it. A tolerance below the 30 s after which a
// silence is a loss is none.
func (l *storeLoss) tolerated(silence time.Duration) bool {
	if silence <= 0 || silence > l.tolerate { // no silence: sessions are refused for another reason
		return false
	}
	l.requests.Add(1)
	return true
}

// Degraded is the number of requests that were made in the name of a session while the store was silent, refused ones included.
func (g *Gate) Degraded() uint64 { return g.storeLoss.requests.Load() }
