package hardening

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// State is where a pepper version stands in its life: pending → primary → verify → (inner) → retired → destroyed.
type State string

// The states of a version. The empty state, of rings that were made before there were states, is read as primary or verify.
const (
	// StatePending: made, and on its way to all nodes; it verifies, and becomes the primary when its time has come.
	StatePending State = "pending"
	// StatePrimary: new records are made with it.
	StatePrimary State = "primary"
	// StateVerify: records that it made verify and can be upgraded.
	StateVerify State = "verify"
	// StateInner: opens only beneath a newer layer. A pepper that leaked can make whole records of its own; when every true
	// record has a newer layer, one without is a forgery.
	StateInner State = "inner"
	// StateRetired: kept, and used for nothing.
	StateRetired State = "retired"
	// StateDestroyed: its key is gone for good. The name stays, so that it is never given again.
	StateDestroyed State = "destroyed"
)

// errRetired says that a record needs a pepper that the operator took out of use. Like a foreign record it is an error and
// never "wrong password".
var errRetired = fmt.Errorf("%w: its pepper was taken out of use", ErrForeign)

// version is one pepper, or one key of the original form. Its key is never printed: nothing prints an openRing.
type version struct {
	ID      string    `json:"id"`
	Key     []byte    `json:"key,omitempty"` // empty when destroyed
	Created time.Time `json:"created"`
	State   State     `json:"state,omitempty"`
	// Activates is when a pending version becomes the primary, on every node by its own clock.
	Activates time.Time `json:"activates,omitzero"`
	// Changed is when the state became what it is; of one that verifies: when it ceased to be the primary.
	Changed time.Time `json:"changed,omitzero"`
	// Compromised: somebody else may know the key. It still verifies until it is closed or retired.
	Compromised bool `json:"compromised,omitempty"`
}

// number is n of pn, 0 for the keys of the original form.
func (v version) number() uint64 {
	digits, _ := strings.CutPrefix(v.ID, "p")
	n, err := strconv.ParseUint(digits, 10, 24)
	if err != nil || v.ID == digits {
		return 0
	}
	return n
}

// find returns the index of a version, -1 when the ring has none of that name.
func (o *openRing) find(id string) int {
	for i := range o.body.Versions {
		if o.body.Versions[i].ID == id && id != "" {
			return i
		}
	}
	return -1
}

// primary is the index of the version that new records are made with, -1 when there is none. A pending one counts from its time on, whether or not the store
// says so yet: all nodes change over at one moment.
func (o *openRing) primary(now time.Time) int {
	newest := -1
	for i := range o.body.Versions {
		v := &o.body.Versions[i] // a copy is two cache lines, for each request
		if v.State == StatePending && !now.Before(v.Activates) || v.State == StatePrimary && newest < 0 {
			newest = i
		}
	}
	return newest
}

// newest is the name of the layer that an upgrade lays over older ones.
func (o *openRing) newest(now time.Time) string {
	if i := o.primary(now); i >= 0 {
		return o.body.Versions[i].ID
	}
	return ""
}

// usable returns the key of a layer of a record. outermost says that no newer layer lies over it. [ErrForeign] means that
// this ring has no such version, as far as this node knows: look again with [Ring.refresh] before that is the answer.
// errRetired means that it was taken out of use. The record's author proved nothing by either.
func (o *openRing) usable(id string, outermost bool) ([]byte, error) {
	i := o.find(id)
	if i < 0 {
		return nil, fmt.Errorf("reading record: %w: this ring has no pepper %s", ErrForeign, id)
	}
	v := &o.body.Versions[i]
	switch v.State {
	case StatePending, StatePrimary, StateVerify:
		return v.Key, nil
	case StateInner:
		if !outermost {
			return v.Key, nil
		}
	}
	return nil, fmt.Errorf("reading record: %w: %s", errRetired, id)
}

// upgradeDue says that records can still stand under a compromised pepper alone: it is usable as the outermost layer, and
// no census since then found none.
func (o *openRing) upgradeDue() bool {
	for _, v := range o.body.Versions {
		if v.Compromised && v.State == StateVerify {
			c := o.body.Census
			if c == nil || c.Records <= c.Foreign || c.Began.Before(v.Changed) || c.Outermost[v.ID] > 0 {
				return true
			}
		}
	}
	return false
}

// promote writes down what primary already says: the pending version whose time has come is the primary.
func (o *openRing) promote(now time.Time) bool {
	i := o.primary(now)
	if i < 0 || o.body.Versions[i].ID == o.body.Primary {
		return false
	}
	next := o.body.Versions[i]
	for i, v := range o.body.Versions {
		switch {
		case v.ID == next.ID:
			o.set(i, StatePrimary, v.Activates)
		case v.State == StatePrimary, v.State == StatePending && !now.Before(v.Activates):
			o.set(i, StateVerify, next.Activates)
		}
	}
	return true
}

// set changes a version's state. The slice is the clone's own.
func (o *openRing) set(i int, s State, now time.Time) {
	v := &o.body.Versions[i]
	v.State, v.Changed, v.Activates = s, now.UTC().Round(0), time.Time{}
	if s == StatePrimary {
		o.body.Primary = v.ID
	}
}

// nextID names a new pepper. Numbers only rise, destroyed ones included: in a record a newer layer has a higher number.
func (o *openRing) nextID() string {
	var last uint64
	for _, v := range o.body.Versions {
		last = max(last, v.number())
	}
	return "p" + strconv.FormatUint(last+1, 10)
}

// settle gives the versions of an old body their states, and checks those of a new one.
func (o *openRing) settle() error {
	primaries := 0
	for i := range o.body.Versions {
		v := &o.body.Versions[i]
		if v.State == "" {
			v.State = StateVerify
			if v.ID == o.body.Primary {
				v.State = StatePrimary
			}
		}
		switch v.State {
		case StatePrimary:
			primaries++
		case StatePending, StateVerify, StateInner, StateRetired, StateDestroyed:
		default:
			return errors.New("opening ring: a version has a state that this program does not know")
		}
		if (len(v.Key) != pepperSize) != (v.State == StateDestroyed) || v.State == StateDestroyed && len(v.Key) != 0 {
			return errors.New("opening ring: a version has no key of 32 bytes")
		}
		if o.find(v.ID) != i {
			return errors.New("opening ring: a version is twice in it, or has no name")
		}
	}
	if i := o.find(o.body.Primary); primaries != 1 || i < 0 || o.body.Versions[i].State != StatePrimary {
		return errors.New("opening ring: a version that the ring names is not in it")
	}
	return nil
}

// plain reports whether the body says nothing that the first version of the format could not say. Such a ring is written
// in it, so that going back to an earlier program stays possible until an operator changes something.
func (b ringBody) plain() bool {
	for _, v := range b.Versions {
		want := StateVerify
		if v.ID == b.Primary {
			want = StatePrimary
		}
		if v.State != want || v.Compromised || !v.Changed.IsZero() || !v.Activates.IsZero() {
			return false
		}
	}
	return len(b.Banned) == 0 && b.Census == nil
}

// inherits reports whether the ring goes on from another one: it has every pepper of it, the same keys under the same
// names, nothing destroyed has come back and no ban was lifted. A ring that does not is an old copy that somebody wrote
// on, or a planted one.
func (o *openRing) inherits(earlier *openRing) error {
	for _, was := range earlier.body.Versions {
		i := o.find(was.ID)
		switch {
		case i < 0:
			return fmt.Errorf("it lacks pepper %s", was.ID)
		case o.body.Versions[i].State == StateDestroyed:
		case !sameKey(o.body.Versions[i].Key, was.Key):
			return fmt.Errorf("its pepper %s is another one", was.ID)
		}
	}
	for _, kid := range earlier.body.Banned {
		if !slices.Contains(o.body.Banned, kid) {
			return fmt.Errorf("it forgot that key %s is compromised", shortID(kid))
		}
	}
	return nil
}

// banned reports whether nothing may be wrapped for a key any more, because it is compromised.
func (o *openRing) banned(kid string) bool { return slices.Contains(o.body.Banned, kid) }
