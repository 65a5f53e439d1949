package hardening

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// freeFailures may follow each other without delay; a person with caps lock on must not wait.
	freeFailures = 10
	// firstDelay doubles with each further failure up to longDelay.
	firstDelay = time.Second
	longDelay  = 15 * time.Minute
	// hardStop failures in a row (SP 800-63B-4 section 3.2.2) leave one try a day, until one succeeds: slow enough to be no
	// guessing, and no lock-out for good, which would hand every account to a prankster (ASVS 6.1.1).
	hardStop  = 100
	stopDelay = 24 * time.Hour
	// knownFor is how long a source stays known after a success. A known source is not stopped by the failures of others:
	// whoever guesses from elsewhere does not lock the owner out. Its own failures count as anybody's.
	knownFor = 30 * 24 * time.Hour
	// maxKnown and maxStrangers bound what is kept of one uid. A stranger that is forgotten stays counted in the sum.
	maxKnown     = 8
	maxStrangers = 24
	// maxRaces is how often a lost race for a uid's entry is run again.
	maxRaces = 64
)

// sourceKey is the keyed hash of a source.
type sourceKey [12]byte

// MarshalText keeps entries short and names nobody.
func (k sourceKey) MarshalText() ([]byte, error) { return noPadding.AppendEncode(nil, k[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (k *sourceKey) UnmarshalText(text []byte) error {
	raw, err := noPadding.DecodeString(string(text))
	if err != nil || len(raw) != len(k) {
		return errors.New("reading failures: a source is not one we write")
	}
	copy(k[:], raw)
	return nil
}

// account is what is known of one record of a uid (openRing.tryKey): in this process, and in the store for all nodes.
type account struct {
	// Failed counts wrong secrets from all sources since each one's last success.
	Failed int `json:"failed,omitempty"`
	// Until stops every source that is not known, from hardStop failures on.
	Until   time.Time `json:"until,omitzero"`
	Sources []source  `json:"sources,omitempty"`
}

// source is one place that secrets for a uid come from.
type source struct {
	Key    sourceKey `json:"key"`
	Failed int       `json:"failed,omitempty"` // consecutive wrong secrets
	Until  time.Time `json:"until,omitzero"`
	Seen   time.Time `json:"seen,omitzero"` // last success
}

func (s *source) known(now time.Time) bool {
	return !s.Seen.IsZero() && now.Before(s.Seen.Add(knownFor))
}

// of returns the entry of a source; it has none before its first failure or success.
func (a *account) of(key sourceKey) source {
	if i := a.find(key); i >= 0 {
		return a.Sources[i]
	}
	return source{Key: key}
}

func (a *account) find(key sourceKey) int {
	return slices.IndexFunc(a.Sources, func(s source) bool { return s.Key == key })
}

// wait is how long a source must still wait.
func (a *account) wait(key sourceKey, now time.Time) time.Duration {
	s := a.of(key)
	wait := s.Until.Sub(now)
	if !s.known(now) {
		wait = max(wait, a.Until.Sub(now))
	}
	return max(0, wait)
}

// fail counts a wrong secret.
func (a *account) fail(key sourceKey, now time.Time) {
	s := a.of(key)
	s.Failed++
	s.Until = now.Add(delayAfter(s.Failed))
	a.Failed++
	if a.Failed >= hardStop && !s.known(now) {
		a.Until = now.Add(stopDelay)
	}
	a.put(s, now)
}

// succeed forgets the failures of the source, and only those: somebody else's guesses do not become free because the owner
// signs in now and then.
func (a *account) succeed(key sourceKey, now time.Time) {
	s := a.of(key)
	a.Failed = max(0, a.Failed-s.Failed)
	a.put(source{Key: key, Seen: now.UTC().Truncate(time.Second)}, now)
	if a.Failed < hardStop {
		a.Until = time.Time{}
	}
}

// takeBack makes a counted try undone: no secret was compared. was is the entry before.
func (a *account) takeBack(key sourceKey, was account, now time.Time) {
	s, before := a.of(key), was.of(key)
	if s.Failed == 0 {
		return // forgotten meanwhile
	}
	a.Failed, s.Failed = max(0, a.Failed-1), s.Failed-1
	if s.Failed == before.Failed {
		s.Until = before.Until
	}
	if a.Failed == was.Failed {
		a.Until = was.Until
	}
	a.put(s, now)
}

// put stores a source's entry and keeps the list short: of the known ones the last seen stay, of the others those that wait
// longest.
func (a *account) put(s source, now time.Time) {
	list := slices.DeleteFunc(slices.Clone(a.Sources), func(o source) bool {
		return o.Key == s.Key || o.Failed == 0 && !o.known(now)
	})
	if s.Failed > 0 || s.known(now) {
		list = append(list, s)
	}
	slices.SortStableFunc(list, func(x, y source) int {
		switch {
		case x.known(now) != y.known(now):
			if x.known(now) {
				return -1
			}
			return 1
		case x.known(now):
			return y.Seen.Compare(x.Seen)
		}
		return y.Until.Compare(x.Until)
	})
	known := 0
	for known < len(list) && list[known].known(now) {
		known++
	}
	strangers := list[known:]
	a.Sources = append(list[:min(known, maxKnown):min(known, maxKnown)], strangers[:min(len(strangers), maxStrangers)]...)
}

// empty reports whether there is nothing worth keeping.
func (a *account) empty() bool { return a.Failed == 0 && len(a.Sources) == 0 }

// keep is how long an entry is kept after its last change: failures as long as the hard stop counts them, known sources as
// long as they are known. A day for the failures of strangers bounds what made-up names can leave in the store; whoever
// waits a day after nine tries gets nine tries a day.
func (a *account) keep(now time.Time) time.Time {
	end := now.Add(stopDelay)
	if a.Failed >= freeFailures {
		end = now.Add(knownFor)
	}
	for _, s := range a.Sources {
		if s.known(now) {
			end = later(end, s.Seen.Add(knownFor))
		}
	}
	return end
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// delayAfter is the pause that n failures in a row earn.
func delayAfter(n int) time.Duration {
	switch {
	case n < freeFailures:
		return 0
	case n >= hardStop:
		return stopDelay
	}
	return min(longDelay, firstDelay<<min(n-freeFailures, 20))
}

// ledger keeps the failures of all nodes in the store. A try is counted before it is evaluated and taken back when it
// succeeds: of any number of parallel tries on any number of nodes no more are evaluated than of as many in a row.
type ledger struct {
	store Store
	now   func() time.Time
}

// begin counts a try, or says how long the source must wait. It returns the entry before, for takeBack.
func (l ledger) begin(ctx context.Context, key string, src sourceKey) (was account, err error) {
	for {
		var wait time.Duration
		err = l.change(ctx, key, func(a *account, now time.Time) bool {
			was = *a
			if wait = a.wait(src, now); wait > 0 {
				return false
			}
			a.fail(src, now)
			return true
		})
		if err != nil || wait == 0 {
			return was, err
		}
		err = delayError{fmt.Errorf("checking failures: %w", ErrLimited), wait}
		// Tries that run on other nodes are counted already. A short wait lets those that succeed be taken back, so that an
		// account that many programs use at once is not refused for it.
		if wait > firstDelay {
			return was, err
		}
		timer := time.NewTimer(firstDelay / 5)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return was, err
		}
		if a, ok := l.peek(ctx, key); !ok || a.Failed >= was.Failed {
			return was, err
		}
	}
}

func (l ledger) peek(ctx context.Context, key string) (account, bool) {
	a, _, err := l.get(ctx, key)
	return a, err == nil
}

// end writes down what became of a counted try. A wrong one stands already.
func (l ledger) end(ctx context.Context, key string, src sourceKey, was account, o outcome) error {
	switch o {
	case right:
		return l.change(ctx, key, func(a *account, now time.Time) bool { a.succeed(src, now); return true })
	case notTried:
		return l.change(ctx, key, func(a *account, now time.Time) bool { a.takeBack(src, was, now); return true })
	}
	return nil
}

func (l ledger) get(ctx context.Context, key string) (a account, old []byte, err error) {
	old, err = l.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return a, nil, nil
	}
	if err != nil {
		return a, nil, err
	}
	if err := json.Unmarshal(old, &a); err != nil {
		// Nobody but us writes it. What cannot be read counts as stopped: a damaged entry must not be a way around it.
		a = account{Failed: hardStop, Until: l.now().Add(stopDelay)}
	}
	return a, old, nil
}

// change applies f to an entry until no other node is in between; f may run several times and says whether to write.
func (l ledger) change(ctx context.Context, key string, f func(*account, time.Time) bool) error {
	for round := range maxRaces {
		if err := store.Pause(ctx, round); err != nil {
			return fmt.Errorf("writing failures: %w: %w", ErrBusy, err)
		}
		a, old, err := l.get(ctx, key)
		if err != nil {
			return err
		}
		now := l.now()
		if !f(&a, now) {
			return nil
		}
		text, err := json.Marshal(&a)
		if err != nil {
			return fmt.Errorf("writing failures: %w", err)
		}
		if bytes.Equal(text, old) {
			return nil
		}
		expires := a.keep(now)
		if a.empty() {
			expires = now // nothing is left to keep
		}
		if err := l.store.CompareAndSwap(ctx, key, old, text, expires); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("writing failures: %w: lost %d races for one uid", ErrBusy, maxRaces)
}
