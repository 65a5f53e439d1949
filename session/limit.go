package session

import (
	"fmt"
	"time"
)

// Device says in words of ours with what somebody signed in.
type Device struct{ Browser, System string }

// Admission is what is known about a sign-in besides who it is.
type Admission struct {
	Device Device
	// Move says that the person agreed to end the oldest sign-ins when the limit
	// is reached and the role may.
	Move bool
	// Replaces is the sid of the session that this browser had, or "". It does
	// not count, as the caller revokes it.
	Replaces string
	// Proved is when the person proved who they are, where that waited for an
	// answer of theirs; zero: just now. What was revoked until then or since ends
	// the wait too: an operator who ended all sessions of somebody did not mean to
	// leave one in the making.
	Proved time.Time
}

// Info describes one sign-on, over all sites that it is used on.
type Info struct {
	ID                string // sid
	Source, Subject   string
	Username, Name    string
	Roles, AMR, Sites []string
	Device            Device
	Started, Seen     time.Time
	Expires, Ends     time.Time // idle and absolute end
}

// LimitError is an [ErrLimit] with what stands in the way.
type LimitError struct {
	Sessions []Info // the live ones, oldest seen first
	OnLimit  OnLimit
	Limit    int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%d of %d sign-ins: %v", len(e.Sessions), e.Limit, ErrLimit)
}

// Is makes every LimitError an ErrLimit.
func (e *LimitError) Is(target error) bool { return target == ErrLimit }
