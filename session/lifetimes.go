package session

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Lifetimes when nothing else is said, and the longest that may be asked for. A
// token that claims to live longer than longestIdle is none of ours: that is how
// a time in milliseconds shows (RFC 7519, section 2).
const (
	defaultIdle     = 15 * time.Minute
	defaultAbsolute = 12 * time.Hour
	longestIdle     = 24 * time.Hour
	longestAbsolute = 30 * 24 * time.Hour
	mostSessions    = 100
)

// OnLimit says what happens when a person signs in once more than allowed.
type OnLimit string

// Move offers to end the oldest sign-in, Refuse does not.
const (
	Move   OnLimit = "move"
	Refuse OnLimit = "refuse"
)

// Lifetime is what one role, or everybody, may. A zero field says nothing.
type Lifetime struct {
	Idle     time.Duration // whole seconds, 1 s to 24 h
	Absolute time.Duration // whole seconds, Idle to 30 days
	Sessions int           // sign-ins at the same time, at most 100; 0: any number
	OnLimit  OnLimit       // left out: Move
}

// Lifetimes are the lifetimes of everybody and of single roles. The zero value
// means 15 minutes and 12 hours, without a limit.
type Lifetimes struct {
	Default Lifetime
	Roles   map[string]Lifetime
}

// Of returns what holds for somebody with these roles. What a role says replaces
// what is said for everybody; of several roles the strictest counts: the shortest
// time, the smallest number, Refuse before Move where the numbers are the same.
func (l Lifetimes) Of(roles []string) Lifetime {
	idle, absolute := time.Duration(0), time.Duration(0)
	limit, limited := Lifetime{}, false
	for _, role := range roles {
		r, ok := l.Roles[role]
		if !ok {
			continue
		}
		idle, absolute = shorter(idle, r.Idle), shorter(absolute, r.Absolute)
		if r.Sessions != 0 || r.OnLimit != "" {
			own := Lifetime{Sessions: cmp.Or(r.Sessions, l.Default.Sessions), OnLimit: cmp.Or(r.OnLimit, l.Default.OnLimit)}
			if !limited || stricter(own, limit) {
				limit, limited = own, true
			}
		}
	}
	if !limited {
		limit = l.Default
	}
	e := Lifetime{Idle: idle, Absolute: absolute, Sessions: limit.Sessions, OnLimit: limit.OnLimit}
	if e.Idle == 0 {
		e.Idle = cmp.Or(l.Default.Idle, defaultIdle)
	}
	if e.Absolute == 0 {
		e.Absolute = cmp.Or(l.Default.Absolute, max(defaultAbsolute, e.Idle))
	}
	e.Idle = min(e.Idle, e.Absolute) // the two may come from two roles
	switch {
	case e.Sessions == 0:
		e.OnLimit = ""
	case e.OnLimit == "":
		e.OnLimit = Move
	}
	return e
}

// Check says what is wrong with the lifetimes, or nil.
func (l Lifetimes) Check() error {
	if err := l.Default.check(); err != nil {
		return err
	}
	for _, role := range slices.Sorted(maps.Keys(l.Roles)) {
		if !isRole(role) {
			return errors.New("lifetimes of a role whose name is not [A-Za-z0-9._-]{1,64}")
		}
		if err := l.Roles[role].check(); err != nil {
			return fmt.Errorf("role %s: %w", role, err)
		}
	}
	return nil
}

func (l Lifetime) check() error {
	switch {
	// Token times are whole seconds; a fraction would be cut silently.
	case l.Idle < 0 || l.Absolute < 0 || l.Idle%time.Second != 0 || l.Absolute%time.Second != 0:
		return fmt.Errorf("lifetimes must be whole seconds, at least one: idle %s, absolute %s", l.Idle, l.Absolute)
	case l.Idle > longestIdle:
		return fmt.Errorf("idle %s is longer than %s", l.Idle, longestIdle)
	case l.Absolute > longestAbsolute:
		return fmt.Errorf("absolute %s is longer than %s", l.Absolute, longestAbsolute)
	case l.Absolute != 0 && l.Idle > l.Absolute:
		return fmt.Errorf("idle %s is longer than absolute %s", l.Idle, l.Absolute)
	case l.Sessions < 0 || l.Sessions > mostSessions:
		return fmt.Errorf("sessions %d: 1 to %d, or 0 for any number", l.Sessions, mostSessions)
	case l.OnLimit != "" && l.OnLimit != Move && l.OnLimit != Refuse:
		return fmt.Errorf("on limit %q: %q or %q", l.OnLimit, Move, Refuse)
	}
	return nil
}

// longest is the longest absolute lifetime that anybody has.
func (l Lifetimes) longest() time.Duration {
	longest := l.Of(nil).Absolute
	for role := range l.Roles {
		longest = max(longest, l.Of([]string{role}).Absolute)
	}
	return longest
}

// shorter is the shorter one of two times of which zero says nothing.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// stricter says whether limit a leaves less than b. No limit is the mildest.
func stricter(a, b Lifetime) bool {
	if a.Sessions == b.Sessions {
		return a.OnLimit == Refuse && b.OnLimit != Refuse
	}
	return a.Sessions != 0 && (b.Sessions == 0 || a.Sessions < b.Sessions)
}
