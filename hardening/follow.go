package hardening

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// syncTimeout bounds one look at the store.
	syncTimeout = 10 * time.Second
	// followEvery is the poll of an open ring, one Get. It finds what no event tells: a certificate that a peer renewed, a
	// file that was replaced at a reload, what an operator did on another node.
	followEvery = 2 * time.Second
	// followWaiting is the poll while no key is visible: a managed certificate appears some milliseconds after the start.
	followWaiting = 100 * time.Millisecond
	// followTrouble is the poll of a ring that is locked or whose store does not answer.
	followTrouble = 2 * time.Second
)

// Follow looks at the ring until ctx ends, which is how its caller stops it. Run it in one goroutine.
func (r *Ring) Follow(ctx context.Context) {
	for {
		once, cancel := context.WithTimeout(ctx, syncTimeout)
		err := r.Sync(once)
		cancel()
		timer := time.NewTimer(followDelay(err))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func followDelay(err error) time.Duration {
	switch {
	case err == nil:
		return followEvery
	case errors.Is(err, errNoKey):
		return followWaiting
	}
	return followTrouble
}

// wait returns the opened ring, waiting for it until ctx ends when no key is visible yet. A locked ring is not waited for.
func (r *Ring) wait(ctx context.Context) (*openRing, error) {
	for {
		r.mu.Lock()
		open, err, changed := r.open, r.err, r.changed
		r.mu.Unlock()
		switch {
		case open != nil:
			return open, nil
		case errors.Is(err, ErrLocked):
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// held is the opened ring, or nil.
func (r *Ring) held() *openRing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

// newest is the opened ring for what makes records. Where the store has a newer state of it that does not open here, a pepper
// may have been found compromised: what is held verifies on, and makes nothing.
func (r *Ring) newest(o *openRing) (*openRing, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.behind && r.open == o {
		return nil, fmt.Errorf("using ring %q: %w: its keys were replaced, and this node cannot open it", r.cfg.Name, ErrLocked)
	}
	return o, nil
}

func (r *Ring) fallBehind() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.behind = true
}

// publish makes an opened ring the one that requests use, and err what they hear when there is none.
func (r *Ring) publish(o *openRing, err error) {
	if o != nil {
		r.saveMark(o)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if o != nil {
		r.open, r.behind = o, false
	}
	r.err = err
	close(r.changed)
	r.changed = make(chan struct{})
}

// report tells the operator of each trouble once, and of its end. Called with r.syncing held.
func (r *Ring) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == r.reported {
		return
	}
	r.reported = text
	log := r.cfg.Logger.With("ring", r.cfg.Name)
	switch {
	case err == nil:
		log.Info("the password ring is open")
	case errors.Is(err, ErrLocked):
		log.Error("the password ring is locked: its records cannot be verified", "error", err)
	case errors.Is(err, errNoKey):
		log.Info("the password ring waits for a TLS key of its subject")
	default:
		log.Warn("the password ring could not be brought up to date", "error", err)
	}
}

func (r *Ring) setLive(keys []TLSKey) {
	names := make([]string, 0, len(keys))
	for _, k := range keys {
		names = append(names, k.kid)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live = names
}
