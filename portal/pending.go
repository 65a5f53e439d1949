package portal

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// moveCookie holds a sign-in that waits for the person to say whether to
	// move here. There is one: whoever signs in next takes its place.
	moveCookie = "__Host-anteroom-move"

	// moveTTL is how long it waits.
	moveTTL = 5 * time.Minute
)

// pending is somebody who has proved who they are, and is signed in at as many
// places as their role allows. It lives, sealed, in one cookie and opens nothing
// but the form that moves the session here: there is no session yet. An attacker
// who could make one would be anybody.
type pending struct {
	Attempt  attempt // how it goes on afterwards
	Identity identity.Identity
	Limit    int
	Created  int64 // Unix seconds
	Kept     bool  `json:",omitempty"` // what the source keeps of it waits in the store
}

// ticket names a pending sign-in on its page, so that a page that is left open
// never moves the one of whoever came after. It opens nothing by itself.
func (d pending) ticket() string {
	return base64.RawURLEncoding.EncodeToString(labelled(labelMoveID, d.Attempt.State)[:16])
}

// sealPending makes the cookie of a sign-in that waits.
func (p *Portal) sealPending(ctx context.Context, a attempt, id identity.Identity, limit int) (*http.Cookie, error) {
	a.Keep = nil // the provider has answered
	keep := id.Keep
	id.Keep = nil // no token goes to a browser, and it would not fit
	d := pending{Attempt: a, Identity: id, Limit: limit, Created: p.now().Unix(), Kept: keep != nil}
	c, err := p.sealPendingAs(ctx, d)
	if errors.Is(err, errAttemptSize) && d.Attempt.ReturnTo != "/" {
		d.Attempt.ReturnTo = "/" // the only part that a link chooses
		c, err = p.sealPendingAs(ctx, d)
	}
	if err == nil && d.Kept {
		err = p.putKept(ctx, d, keep)
	}
	return c, err
}

func (d pending) keptKey() string {
	return labelMoveKeepID + "/" + hex.EncodeToString(labelled(labelMoveKeepID, d.Attempt.State))
}

// putKept leaves what the source keeps in the store for as long as the sign-in may
// wait.
func (p *Portal) putKept(ctx context.Context, d pending, keep []byte) error {
	sealed, err := p.sealer.Seal(ctx, labelMoveKeep, keep)
	if err == nil {
		err = p.store.Put(ctx, d.keptKey(), sealed, time.Unix(d.Created, 0).Add(moveTTL+2*attemptSkew))
	}
	if err != nil {
		return fmt.Errorf("keeping what a sign-in that waits came with: %w", err)
	}
	return nil
}

// takeKept gives it back to the sign-in. Without it nobody could ask the source
// about the session again: store.ErrNotFound.
func (p *Portal) takeKept(ctx context.Context, d *pending) error {
	if !d.Kept {
		return nil
	}
	sealed, err := p.store.Take(ctx, d.keptKey())
	if err == nil {
		d.Identity.Keep, err = p.sealer.Open(ctx, labelMoveKeep, sealed)
	}
	if err != nil {
		return fmt.Errorf("taking what a sign-in that waited came with: %w", err)
	}
	return nil
}

// dropKept forgets it; otherwise it ends by itself.
func (p *Portal) dropKept(ctx context.Context, d pending) {
	if !d.Kept {
		return
	}
	if err := p.store.Delete(ctx, d.keptKey()); err != nil {
		p.log.Debug("what a sign-in came with stays until it is over", "error", err)
	}
}

func (p *Portal) sealPendingAs(ctx context.Context, d pending) (*http.Cookie, error) {
	sealed, err := p.sealJSON(ctx, labelMove, d)
	if err != nil {
		return nil, fmt.Errorf("a sign-in that waits: %w", err)
	}
	c := ownCookie(moveCookie, sealed, moveTTL)
	if n := len(c.Name) + len(c.Value); n > maxCookie {
		return nil, fmt.Errorf("sealing a sign-in that waits: %d bytes: %w", n, errAttemptSize)
	}
	return c, nil
}

// heldPending finds the sign-in that waits in this browser: the cookie stands
// once, was sealed by us for this host, is younger than moveTTL, and nobody has
// signed out of this browser since. Otherwise it gives the reason, and what it
// returns is good for its Source and ReturnTo only.
func (p *Portal) heldPending(r *http.Request) (d pending, reason string) {
	var text string
	n := 0
	for name, value := range cookies(r) {
		if name == moveCookie {
			n, text = n+1, value
		}
	}
	none := pending{Attempt: attempt{ReturnTo: "/"}}
	if n == 0 {
		return none, reasonMoveMissing
	}
	if n > 1 || len(text) > maxCookie {
		return none, reasonMoveUnreadable
	}
	if err := p.openJSON(r.Context(), labelMove, text, &d); err != nil || d.Attempt.State == "" || d.Identity.Check() != nil || d.Identity.Source != d.Attempt.Source {
		return none, reasonMoveUnreadable
	}
	d.Attempt.ReturnTo = returnTo(d.Attempt.ReturnTo, p.prefix) // was checked before it was sealed; the rule may have changed since
	created := time.Unix(d.Created, 0)
	now := p.now()
	switch {
	case now.Sub(created) >= moveTTL, created.Sub(now) > attemptSkew:
		return d, reasonMoveExpired
	case d.Attempt.Host != strings.ToLower(r.Host):
		return d, reasonMoveHost
	case p.source(d.Attempt.Source) == nil:
		return d, reasonMoveSource
	case !d.Attempt.Reauthenticate && p.mustPrompt(r):
		return d, reasonBefore // as for an attempt: see take
	}
	d.Attempt.move, d.Attempt.proved = true, time.Unix(d.Created, 0)
	return d, ""
}

// consumePending marks the sign-in as used. It returns store.ErrConflict when it
// was used already.
func (p *Portal) consumePending(ctx context.Context, d pending) error {
	key := labelMoved + "/" + hex.EncodeToString(labelled(labelMoved, d.Attempt.State))
	expires := time.Unix(d.Created, 0).Add(moveTTL + 2*attemptSkew)
	if err := p.store.CompareAndSwap(ctx, key, nil, []byte{1}, expires); err != nil {
		if errors.Is(err, store.ErrConflict) {
			return err
		}
		return fmt.Errorf("recording the use of a sign-in that waits: %w", err)
	}
	return nil
}
