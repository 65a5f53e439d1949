package portal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

// TestKeptReachesTheSession: what a source keeps is never with the browser, and is
// there when the sign-in went by way of the question whether to move here.
func TestKeptReachesTheSession(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("refresh-token-of-adoe", 300) // larger than any cookie
	h := newRich("hospital", "Hospital")
	h.id.Keep = []byte(secret)
	w := newWorld(t, h).limits(1, session.Move)
	first := w.browser()
	answer := first.signIn("hospital", "/")
	check := func(b *browser) {
		t.Helper()
		kept, err := w.sessions.Kept(t.Context(), b.mustSession().ID)
		if err != nil || string(kept) != "https://hospital.example\x00"+secret {
			t.Errorf("kept %.40q, %v", kept, err)
		}
		for name, value := range b.jar {
			if len(value) > 2000 || strings.Contains(value, "refresh") {
				t.Errorf("22: %s holds %.60s", name, value)
			}
		}
	}
	check(first)
	if strings.Contains(fmt.Sprint(answer.Header()), "refresh") {
		t.Error("22: a token reaches the browser")
	}
	second := w.browser()
	page, ticket := second.waits(chrome, "/x")
	if strings.Contains(page.Body.String(), "refresh") {
		t.Error("22: a token stands on a page")
	}
	expect(t, second.form("/.anteroom/move", "id="+ticket), http.StatusSeeOther)
	check(second)
	t.Run("gone from the store meanwhile", func(t *testing.T) {
		third := w.browser()
		_, ticket := third.waits(chrome, "/x")
		items, err := w.store.List(t.Context(), labelMoveKeepID)
		if err != nil || len(items) != 1 {
			t.Fatalf("%d waiting, %v", len(items), err)
		}
		if strings.Contains(string(items[0].Value), "refresh") {
			t.Error("the store holds it as it is")
		}
		if err := w.store.Delete(t.Context(), items[0].Key); err != nil {
			t.Fatal(err)
		}
		expect(t, third.form("/.anteroom/move", "id="+ticket), http.StatusBadRequest, pageMove.title)
		third.mustNoSession()
	})
	t.Run("not moved, not kept", func(t *testing.T) {
		fourth := w.browser()
		fourth.waits(chrome, "/x")
		expect(t, fourth.get("/.anteroom/move?stay=1"), http.StatusOK)
		if items, err := w.store.List(t.Context(), labelMoveKeepID); err != nil || len(items) != 0 {
			t.Errorf("%d waiting, %v", len(items), err)
		}
	})
}

// TestReverifyAtRenewal: a session that is used follows its provider.
func TestReverifyAtRenewal(t *testing.T) {
	t.Parallel()
	h := newRich("hospital", "Hospital")
	w := newWorld(t, h)
	m, err := session.New(session.Config{
		Store: w.store, Sealer: w.sealer, Now: w.clock, Lifetimes: session.Lifetimes{Default: session.Lifetime{Idle: 20 * time.Second, Absolute: time.Hour}},
		Refresh: func(ctx context.Context, s *session.Session, k session.Kept) (session.Verdict, error) {
			return w.portal.Reverify(ctx, s, k)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	w.use(m)
	w.sessions = m
	b := w.browser()
	b.signIn("hospital", "/")
	var kept []string
	h.more.refresh = func(keep []byte) (identity.Identity, error) {
		kept = append(kept, string(keep))
		i := h.id
		i.Roles, i.ACR, i.Keep = []string{"finance"}, "gold", fmt.Append(nil, "token-", len(kept))
		if len(kept) == 3 {
			return identity.Identity{}, &identity.Failure{Kind: identity.ErrDeclined, Reason: "refresh.invalid_grant"}
		}
		return i, nil
	}
	use := func() error {
		w.advance(6 * time.Second) // a quarter of the idle time
		s := b.mustSession()
		r := m.StartRenewal(s, b.request("GET", "/").Header["Cookie"], site)
		if r == nil {
			return errors.New("nothing was due")
		}
		c, _, err := r.Wait(t.Context())
		if err == nil {
			b.jar[c.Name] = c.Value
		}
		return err
	}
	for range 2 {
		if err := use(); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.mustSession(); len(s.Roles) != 1 || s.Roles[0] != "finance" || s.ACR != "" {
		t.Errorf("session %+v", s)
	}
	if err := use(); err == nil {
		t.Error("a session that its provider has ended was renewed")
	}
	b.mustNoSession()
	if got := strings.Join(kept, " "); got != "id-token-of-hospital token-1 token-2" {
		t.Errorf("asked with %s", got)
	}
	if e := w.audit.last(t); e.Kind != kindReverify || e.Decision != "ended" || e.Reason != "refresh.invalid_grant" {
		t.Errorf("recorded %+v", e)
	}
}
