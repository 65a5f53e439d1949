package portal

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

// asked is a session of a source that answers in this way, and what was kept of it.
func asked(t *testing.T, refresh func(i identity.Identity) (identity.Identity, error)) (*world, *session.Session, session.Kept) {
	t.Helper()
	h := newRich("hospital", "Hospital")
	h.id.ACR, h.id.AMR, h.id.AuthTime, h.id.Org = "silver", []string{"pwd"}, time.Now().Add(-time.Minute).Truncate(time.Second), "ward 3"
	w := newWorld(t, h)
	h.more.refresh = func(keep []byte) (identity.Identity, error) {
		if string(keep) != "id-token-of-hospital" {
			t.Errorf("asked with %q", keep)
		}
		i := h.id
		i.Roles, i.Keep = slices.Clone(i.Roles), []byte("next")
		return refresh(i)
	}
	b := w.browser()
	b.signIn("hospital", "/")
	return w, b.mustSession(), session.Kept{Bytes: keptOf(h.id), Verified: w.clock()}
}

func TestReverify(t *testing.T) {
	t.Parallel()
	refused := &identity.Failure{Kind: identity.ErrRefused, Reason: "idtoken.iss"}
	declined := &identity.Failure{Kind: identity.ErrDeclined, Reason: "refresh.invalid_grant"}
	type ident = identity.Identity
	for name, c := range map[string]struct {
		refresh func(ident) (ident, error)
		reason  string
	}{
		"C30 39 declined":             {func(i ident) (ident, error) { return ident{}, declined }, "refresh.invalid_grant"},
		"C31 refused by the source":   {func(i ident) (ident, error) { return ident{}, refused }, "idtoken.iss"},
		"a failure of no known kind":  {func(i ident) (ident, error) { return ident{}, errors.New("x") }, ""},
		"C31 another issuer":          {func(i ident) (ident, error) { i.Issuer += "/"; return i, nil }, reasonIssuerIs},
		"C32 another subject":         {func(i ident) (ident, error) { i.Subject = "sub-2"; return i, nil }, reasonSubject},
		"C32 the subject in capitals": {func(i ident) (ident, error) { i.Subject = "SUB-1"; return i, nil }, reasonSubject},
		"another source":              {func(i ident) (ident, error) { i.Source = "lab"; return i, nil }, reasonSourceName},
		"a name that is none":         {func(i ident) (ident, error) { i.Username = " adoe"; return i, nil }, "identity.username"},
		"nobody at all":               {func(i ident) (ident, error) { return ident{}, nil }, "identity.source"},
	} {
		t.Run(name+": the session ends", func(t *testing.T) {
			t.Parallel()
			w, s, k := asked(t, c.refresh)
			v, err := w.portal.Reverify(t.Context(), s, k)
			if err != nil || !v.Gone || v.Keep != nil {
				t.Errorf("%+v, %v", v, err)
			}
			e := w.audit.last(t)
			if e.Kind != kindReverify || e.Decision != "ended" || e.Reason != c.reason || e.Session != audit.SessionLabel(s.ID) || e.Subject != "sub-1" || e.Ref == "" || e.Site != site {
				t.Errorf("recorded %+v", e)
			}
		})
	}
	t.Run("CVE-2021-41230 roles and names follow, the level does not", func(t *testing.T) {
		t.Parallel()
		w, s, k := asked(t, func(i ident) (ident, error) {
			i.Roles, i.Username, i.Name, i.Email, i.Org = []string{"finance"}, "ada", "Ada", "a@b.example", "ward 4"
			i.ACR, i.AMR, i.AuthTime, i.Session = "gold", []string{"hwk"}, i.AuthTime.Add(time.Hour), "another"
			return i, nil
		})
		v, err := w.portal.Reverify(t.Context(), s, k)
		if err != nil || v.Gone || !reflect.DeepEqual(v.Keep, []byte("https://hospital.example\x00next")) {
			t.Fatalf("%+v, %v", v, err)
		}
		want := s.Grant
		want.Roles, want.Username, want.Name, want.Email, want.Org = []string{"finance"}, "ada", "Ada", "a@b.example", "ward 4"
		if !reflect.DeepEqual(v.Grant, want) || v.Grant.ACR != "silver" {
			t.Errorf("%+v", v.Grant)
		}
		if e := w.audit.last(t); e.Kind != kindReverify || e.Decision != "allowed" || e.Reason != reasonChanged || e.Roles[0] != "finance" {
			t.Errorf("recorded %+v", e)
		}
	})
	t.Run("nothing new, no record", func(t *testing.T) {
		t.Parallel()
		w, s, k := asked(t, func(i ident) (ident, error) { return i, nil })
		n := len(w.audit.all())
		v, err := w.portal.Reverify(t.Context(), s, k)
		if err != nil || v.Gone || !reflect.DeepEqual(v.Grant, s.Grant) || len(w.audit.all()) != n {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("a source that keeps nothing new", func(t *testing.T) {
		t.Parallel()
		w, s, k := asked(t, func(i ident) (ident, error) { i.Keep = nil; return i, nil })
		if v, err := w.portal.Reverify(t.Context(), s, k); err != nil || !reflect.DeepEqual(v.Keep, k.Bytes) {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("what was kept is nobody's", func(t *testing.T) {
		t.Parallel()
		w, s, k := asked(t, func(i ident) (ident, error) { return i, nil })
		k.Bytes = []byte("no issuer")
		if v, err := w.portal.Reverify(t.Context(), s, k); err != nil || !v.Gone {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("refused after an asking that was cut off", func(t *testing.T) {
		t.Parallel()
		w, s, k := asked(t, func(i ident) (ident, error) { return ident{}, declined })
		k.Unsure = true
		if v, err := w.portal.Reverify(t.Context(), s, k); !errors.Is(err, identity.ErrUnavailable) || v.Gone || w.audit.last(t).Reason != reasonUnsure || w.audit.last(t).Decision != "degraded" {
			t.Errorf("%+v, %v, %+v", v, err, w.audit.last(t))
		}
		k.Verified = w.portal.now().Add(-unsurePatience) // far less than the source's own
		if v, err := w.portal.Reverify(t.Context(), s, k); err != nil || !v.Gone || w.audit.last(t).Reason != reasonPatience {
			t.Errorf("beyond its patience: %+v, %v, %+v", v, err, w.audit.last(t))
		}
	})
	t.Run("another person after an asking that was cut off", func(t *testing.T) {
		t.Parallel()
		w, s, k := asked(t, func(i ident) (ident, error) { i.Subject = "another"; return i, nil })
		k.Unsure = true
		if v, err := w.portal.Reverify(t.Context(), s, k); err != nil || !v.Gone {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("a source that is not asked any more", func(t *testing.T) {
		t.Parallel()
		w, s, k := asked(t, nil)
		w.portal.sources = []identity.Source{w.sources[0]} // without the rest of it
		if v, err := w.portal.Reverify(t.Context(), s, k); err != nil || v.Gone || !reflect.DeepEqual(v.Grant, s.Grant) || !reflect.DeepEqual(v.Keep, k.Bytes) {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

func TestReverifySilence(t *testing.T) {
	t.Parallel()
	down := &identity.Failure{Kind: identity.ErrUnavailable, Reason: "token.unreachable"}
	silent := func(identity.Identity) (identity.Identity, error) { return identity.Identity{}, down }
	t.Run("within the patience it goes on, and is on the record once a minute", func(t *testing.T) {
		t.Parallel()
		w, s, k := asked(t, silent)
		n := len(w.audit.all())
		for range 3 {
			for range 4 {
				v, err := w.portal.Reverify(t.Context(), s, k)
				if !errors.Is(err, identity.ErrUnavailable) || v.Gone {
					t.Fatalf("%+v, %v", v, err)
				}
			}
			w.advance(time.Minute)
		}
		if got := len(w.audit.all()) - n; got != 3 {
			t.Errorf("%d records", got)
		}
		if e := w.audit.last(t); e.Kind != kindReverify || e.Decision != "degraded" || e.Reason != "token.unreachable" || e.Degraded != degradedBy {
			t.Errorf("recorded %+v", e)
		}
	})
	t.Run("beyond it the session ends", func(t *testing.T) {
		t.Parallel()
		w, s, k := asked(t, silent)
		w.advance(time.Hour - time.Second)
		if v, err := w.portal.Reverify(t.Context(), s, k); err == nil || v.Gone {
			t.Errorf("a second before: %+v, %v", v, err)
		}
		w.advance(time.Second)
		if v, err := w.portal.Reverify(t.Context(), s, k); err != nil || !v.Gone || w.audit.last(t).Reason != reasonPatience {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("no patience at all", func(t *testing.T) {
		t.Parallel()
		w, s, k := asked(t, silent)
		w.sources[0].more.patience = 0
		if v, err := w.portal.Reverify(t.Context(), s, k); err != nil || !v.Gone {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("off the record it does not go on for free", func(t *testing.T) {
		t.Parallel()
		w, s, k := asked(t, silent)
		w.audit.set(func(audit.Event) bool { return true })
		if v, err := w.portal.Reverify(t.Context(), s, k); err == nil || v.Gone || !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("%+v, %v", v, err)
		}
		w.sources[0].more.patience = 0
		if v, err := w.portal.Reverify(t.Context(), s, k); err != nil || !v.Gone {
			t.Errorf("the end waits for the record: %+v, %v", v, err)
		}
	})
	t.Run("a source that is gone from the configuration signs nobody out at once", func(t *testing.T) {
		t.Parallel()
		w, s, k := asked(t, silent)
		w.portal.sources = nil
		if v, err := w.portal.Reverify(t.Context(), s, k); err == nil || v.Gone || w.audit.last(t).Reason != reasonAbsent {
			t.Errorf("%+v, %v", v, err)
		}
		w.advance(absentPatience)
		if v, err := w.portal.Reverify(t.Context(), s, k); err != nil || !v.Gone {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("an asking that ran out of time is no refusal", func(t *testing.T) {
		t.Parallel()
		w, s, k := asked(t, func(identity.Identity) (identity.Identity, error) { return identity.Identity{}, context.Canceled })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if v, err := w.portal.Reverify(ctx, s, k); err == nil || v.Gone {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("the memory of records is bounded", func(t *testing.T) {
		t.Parallel()
		m, now := new(seldom), time.Now()
		for i := range degradedMost + 100 {
			if !m.due(fmt.Sprint(i), now) {
				t.Fatal("not due")
			}
		}
		if len(m.last) > degradedMost {
			t.Errorf("%d remembered", len(m.last))
		}
		if !m.due("new", now.Add(degradedEvery)) || len(m.last) != 1 {
			t.Errorf("%d remembered after a minute", len(m.last))
		}
	})
}
