package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// askAtMostFor bounds one asking. It ends before the lease does.
	askAtMostFor = leaseFor - 2*time.Second
	// askOnClose is how long an asking under way may go on after Close: to cut it off
	// may cost the person their sign-in.
	askOnClose = 3 * time.Second
	// restAfterError is the rest after an asking that brought no verdict.
	restAfterError = 30 * time.Second
	// saveEvery is how often a verdict is written again that the store did not take.
	saveEvery = time.Second
)

// Verdict is what an identity source says when it is asked again. The zero Verdict
// vouches for nobody.
type Verdict struct {
	Grant Grant  // of the same source and subject; its level and provider session do not count
	Keep  []byte // in the place of Kept.Bytes, at most 24 KiB; empty: those stay
	Gone  bool   // the source does not vouch any more: the sign-on is revoked
}

// asks are the sign-ons whose source this node asks, or whose verdict it has yet to
// write.
type asks struct {
	mu    sync.Mutex
	under map[string]struct{}
}

func (a *asks) begin(sid string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, there := a.under[sid]; there {
		return false
	}
	if a.under == nil {
		a.under = make(map[string]struct{})
	}
	a.under[sid] = struct{}{}
	return true
}

func (a *asks) has(sid string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, there := a.under[sid]
	return there
}

func (a *asks) end(sid string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.under, sid)
}

// asking is one question to a source: about whom, what lies in the store while it is
// under way, and what it says.
type asking struct {
	s    *Session
	held []byte
	k    kept
	life Lifetime
	at   time.Time
}

// ask takes the lease and asks, in a goroutine of its own: nobody's hanging up cuts off
// what may use up a token. store.ErrConflict: somebody else was first. The sign-on is
// among the asks, and is not any more when all is done.
func (m *Manager) ask(ctx context.Context, s *Session, sealed []byte, k kept, life Lifetime) (standing, error) {
	a := &asking{s: s, k: k, life: life, at: m.now()}
	// Somebody began and never said what came of it.
	a.k.Unsure = k.Unsure || k.Holder != ""
	a.k.Fence, a.k.Holder, a.k.Until = k.Fence+1, newID(), a.at.Add(leaseFor).UnixMilli()
	a.k.Lives = max(k.Lives, lives(a.at, life.Idle, s.Started.Add(life.Absolute)), a.at.Add(2*leaseFor).Unix())
	var err error
	if a.held, err = m.writeKept(ctx, s.ID, sealed, &a.k); err != nil {
		m.asks.end(s.ID)
		return standing{}, err
	}
	type result struct {
		st  standing
		err error
	}
	done := make(chan result, 1)
	begun := m.background(func() {
		defer m.asks.end(s.ID)
		next, err := m.consult(a)
		if err == nil {
			err = m.saveVerdict(a, next)
		}
		if err != nil {
			done <- result{err: err}
		} else {
			st, _ := m.stands(s, next)
			done <- result{st: st}
		}
		if unavailable(err) {
			m.saveLate(a, next)
		}
	})
	if !begun {
		m.asks.end(s.ID)
		return standing{}, ErrClosed
	}
	select {
	case r := <-done:
		return r.st, r.err
	case <-ctx.Done():
		return standing{}, errSlow
	}
}

// background runs f unless the manager closes; Close waits for it.
func (m *Manager) background(f func()) bool {
	m.flights.mu.Lock()
	defer m.flights.mu.Unlock()
	if m.flights.closed {
		return false
	}
	m.loops.Go(f)
	return true
}

// consult asks the source and says what is to be kept from then on. An error says that
// the sign-on is over.
func (m *Manager) consult(a *asking) (*kept, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askAtMostFor)
	defer cancel()
	defer context.AfterFunc(m.life, func() {
		if m.pause(ctx, askOnClose) == nil {
			cancel()
		}
	})()
	st, _ := m.stands(a.s, &a.k)
	about := *a.s
	about.Grant = st.grant
	v, err := m.regrant(ctx, &about, Kept{bytes.Clone(a.k.Bytes), time.Unix(a.k.Verified, 0).UTC(), a.k.Unsure})
	cutOff := err != nil && wasCutOff(ctx, err)
	if err == nil && !v.Gone {
		if problem := acceptable(a.s, v.Grant); problem != nil {
			m.log.Error("an identity source that was asked again said what no session may hold; the sign-on is over", "source", a.s.Source, "error", problem)
			v.Gone = true
		}
	}
	if v.Gone {
		m.endGone(a.s.ID)
		return nil, errProvider
	}
	if err == nil && len(v.Keep) > maxKeep {
		m.log.Error("an identity source wants more kept than 24 KiB; its verdict does not count", "source", a.s.Source, "bytes", len(v.Keep))
		err, cutOff = ErrTooLarge, true // what was kept may be used up
	}
	next := a.k
	next.Holder, next.Until = "", 0
	if err != nil {
		next.Silent, next.Unsure = true, next.Unsure || cutOff
		rest := restAfterError
		if next.Unsure { // whoever is shown a used-up token again and again sounds the alarm
			rest = max(rest, verifyEvery(a.life.Idle))
		}
		next.Rest = m.now().Add(rest).UnixMilli()
		return &next, nil
	}
	next.Silent, next.Unsure, next.Rest = false, false, 0
	next.Verified = a.at.Unix()
	next.Told = tell(v.Grant)
	if len(v.Keep) > 0 {
		next.Bytes = v.Keep
	}
	return &next, nil
}

// wasCutOff says whether a source may have answered without our hearing it: anything
// that failed after the connection was made.
func wasCutOff(ctx context.Context, err error) bool {
	var timeout net.Error
	var op *net.OpError
	return ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op) && op.Op != "dial" ||
		errors.As(err, &timeout) && timeout.Timeout()
}

// acceptable refuses a grant for another account, and what no session may hold.
func acceptable(s *Session, g Grant) error {
	if g.Source != s.Source || g.Subject != s.Subject {
		return fmt.Errorf("another account: %w", ErrGrant)
	}
	size := len(g.Username) + len(g.Name) + len(g.Email) + len(g.Org)
	for _, name := range slices.Concat(g.Roles, g.Groups) {
		size += len(name)
	}
	for name, text := range g.Claims {
		size += len(name) + len(text)
	}
	if size > maxCookie {
		return ErrTooLarge
	}
	return g.check()
}

// endGone revokes a sign-on that its source does not vouch for any more. What the store
// does not take holds here at once and is written later.
func (m *Manager) endGone(sid string) {
	ctx, cancel := context.WithTimeout(context.Background(), revokeTimeout)
	defer cancel()
	r := revocation{Kind: labelRevoked, ID: sid, Reason: causeWords[causeProvider], Until: m.until().Unix()}
	if err := m.enact(ctx, r); err != nil {
		m.log.Error("a sign-on whose identity source does not vouch for it any more is over on this node only, until the store takes that", "error", err)
		m.owe(owed{Entry: r})
		m.carryOut(ctx, r)
	}
}

// saveVerdict writes what came of an asking, if the lease is still ours.
func (m *Manager) saveVerdict(a *asking, next *kept) error {
	ctx, cancel := context.WithTimeout(context.Background(), pollTimeout)
	defer cancel()
	for round := range cellTries {
		if err := again(ctx, round); err != nil {
			return err
		}
		_, err := m.writeKept(ctx, a.s.ID, a.held, next)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		there, sealed, err := m.readKept(ctx, a.s.ID)
		switch {
		case err != nil:
			return err
		case there == nil: // revoked: what came back after that is kept by nobody
			return errForgotten
		case there.Fence != a.k.Fence || there.Holder != a.k.Holder:
			return errLost // or an earlier try was done although the store said that it was not
		}
		// Still our lease: it was only sealed anew under another key.
		a.held, next.Lives = sealed, max(next.Lives, there.Lives)
	}
	return errBusy
}

// saveLate goes on writing a verdict that the store did not take: a token in it may be
// the only one that is good. It ends when somebody else has asked, or with the manager.
func (m *Manager) saveLate(a *asking, next *kept) {
	for {
		over := m.pause(m.life, saveEvery) != nil
		if err := m.saveVerdict(a, next); !unavailable(err) || over || m.now().Unix() >= next.Lives {
			return
		}
	}
}
