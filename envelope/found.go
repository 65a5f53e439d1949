package envelope

import (
	"fmt"
	"slices"
	"strings"
)

// Found is a former master that nobody named: its key file lay beside the data. Whoever can put a file there must gain nothing
// by it. So it vouches for a ring, and opens values of version 1, only when this node has worked under it before (Mark says so)
// or the ring names it, whose proof a master gave that is no Found. Wrapping new keys is no former master's business anyway.
type Found struct{ Master }

// believes reports whether a master may vouch: every one that was named, and a found one that is known.
func (c *core) believes(id string) bool {
	if !c.found[id] {
		return true
	}
	_, known := c.known.Load(id)
	return known
}

// learn takes over from Mark which found masters this node has worked under.
func (c *core) learn() {
	if c.cfg.Mark == nil || len(c.found) == 0 {
		return
	}
	text, err := c.cfg.Mark.Load()
	if err != nil {
		return // checkMark refuses it
	}
	if part := strings.Split(text, " "); len(part) == 3 || len(part) == 4 {
		for _, id := range append(strings.Split(part[len(part)-1], ","), part[2]) {
			if c.found[id] {
				c.known.Store(id, nil)
			}
		}
	}
}

// named takes over which found masters a ring names that was accepted.
func (c *core) named(r *ring) {
	for i := range r.Keys {
		if id := r.Keys[i].Master; c.found[id] {
			c.known.Store(id, nil)
		}
	}
}

// knownFound are the found masters that may vouch, for Mark.
func (c *core) knownFound() []string {
	var ids []string
	for id := range c.found {
		if c.believes(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// local is the master that opens values of version 1 under an id, nil when there is none.
func (c *core) local(id string) *Local {
	if l := c.locals[id]; l != nil && c.believes(l.ID()) {
		return l
	}
	return nil
}

func errFound(ring, master string) error {
	return fmt.Errorf("%w: the key ring %q is under master %s, whose key file lies beside the data and which nobody named, and this node has not worked under it: when it is yours, name the file with `former local FILE` in the line `master`; otherwise somebody put it there, and the ring into the store", ErrRefused, ring, master)
}
