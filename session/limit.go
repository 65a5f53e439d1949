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
	// Keep is what the identity source wants back when it is asked again, or when
	// the person signs out; at most 24 KiB. It lies in the store, sealed, for as long
	// as the sign-on, and is never with the browser.
	Keep []byte
	// Verify says that [Config.Refresh] is to be asked about this sign-on.
	Verify bool
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
