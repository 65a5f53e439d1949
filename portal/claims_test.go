package portal

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

const personal = "p-secret-7" // the value of a claim: it is in sessions, and nowhere else

// withClaims is a source whose person is in groups and has claims.
func withClaims() *source {
	h := newRich("hospital", "Hospital")
	h.id.Groups, h.id.Claims = []string{"icu"}, map[string]string{"patient_id": personal}
	return h
}

func wantClaims(t *testing.T, where string, s *session.Session) {
	t.Helper()
	if !slices.Equal(s.Groups, []string{"icu"}) || !maps.Equal(s.Claims, map[string]string{"patient_id": personal}) {
		t.Errorf("%s: %v, %v", where, s.Groups, s.Claims)
	}
}

// TestClaimsReachTheSession: on every way in, and to nobody besides.
func TestClaimsReachTheSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withClaims()).limits(1, session.Move)
	b := w.browser()
	answer := b.signIn("hospital", "/")
	wantClaims(t, "sign-in", b.mustSession())
	moved := w.browser()
	page, ticket := moved.waits(chrome, "/")
	expect(t, moved.form("/.anteroom/move", "id="+ticket), http.StatusSeeOther)
	wantClaims(t, "moved", moved.mustSession())
	who := moved.get("/.anteroom/")
	told := moved.get("/.anteroom/session", program)
	var members map[string]any
	if err := json.Unmarshal(told.Body.Bytes(), &members); err != nil || fmt.Sprint(members["groups"]) != "[icu]" || members["claims"] != nil || members["device"] != nil {
		t.Errorf("%s: %v", told.Body, err)
	}
	for name, text := range map[string]string{
		"sign-in": answer.Body.String(), "move": page.Body.String(), "who": who.Body.String(), "session": told.Body.String(), "audit": fmt.Sprintf("%+v", w.audit.all()),
	} {
		if strings.Contains(text, personal) {
			t.Errorf("%s says what a claim holds", name)
		}
	}
	for name, value := range b.jar {
		if strings.Contains(value, personal) {
			t.Errorf("%s holds it in the clear", name)
		}
	}

	f := newFleet(t, withClaims())
	u := f.person()
	wantClaims(t, "a site", u.mustOpen(site, "/"))
	wantClaims(t, "another site", u.mustOpen(fincare, "/"))
	wantClaims(t, "the portal", u.at(homeHost).mustSession())
}

// TestClaimsAreChecked: what a source says that no session may hold signs nobody in.
func TestClaimsAreChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*identity.Identity)
		reason string
	}{
		"a group that is two":     {func(i *identity.Identity) { i.Groups = []string{"icu,admin"} }, "identity.groups"},
		"too many groups":         {func(i *identity.Identity) { i.Groups = slices.Repeat([]string{"g"}, 65) }, "identity.groups"},
		"a claim of another name": {func(i *identity.Identity) { i.Claims = map[string]string{"a}/**": "x"} }, "identity.claims"},
		"a claim of two lines":    {func(i *identity.Identity) { i.Claims = map[string]string{"a": "x\r\ny"} }, "identity.claims"},
	} {
		h := newSource("hospital", "Hospital")
		w := newWorld(t, h)
		c.change(&h.id)
		b := w.browser()
		t.Run(name, func(t *testing.T) {
			b.expectFailure(b.get(callback("hospital", b.begin("hospital", "/")), fromProvider), pageRefused, c.reason)
		})
	}
	t.Run("too much for a cookie", func(t *testing.T) {
		h := newSource("hospital", "Hospital")
		h.id.Claims = map[string]string{}
		for i := range 8 {
			h.id.Claims[fmt.Sprint("c", i)] = strings.Repeat("x", 255)
		}
		for i := range 40 {
			h.id.Groups = append(h.id.Groups, fmt.Sprint("group-of-some-length-", i))
		}
		b := newWorld(t, h).browser()
		b.expectFailure(b.get(callback("hospital", b.begin("hospital", "/")), fromProvider), pageTooLarge, reasonTooLarge)
	})
}

// TestReverifyClaims: groups and claims follow the provider, that is on the record, and
// the record does not say what they hold. The device stays what it was.
func TestReverifyClaims(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(*identity.Identity)
		changed bool
	}{
		"nothing new":         {func(*identity.Identity) {}, false},
		"another group":       {func(i *identity.Identity) { i.Groups = []string{"er"} }, true},
		"no group any more":   {func(i *identity.Identity) { i.Groups = nil }, true},
		"another value":       {func(i *identity.Identity) { i.Claims = map[string]string{"patient_id": "p-8"} }, true},
		"another name":        {func(i *identity.Identity) { i.Claims = map[string]string{"patient": personal} }, true},
		"one claim more":      {func(i *identity.Identity) { i.Claims = map[string]string{"patient_id": personal, "unit": "er"} }, true},
		"not said any more":   {func(i *identity.Identity) { i.Claims = nil }, true},
		"an empty set of all": {func(i *identity.Identity) { i.Groups, i.Claims = []string{}, map[string]string{} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := withClaims()
			w := newWorld(t, h)
			var said identity.Identity
			h.more.refresh = func([]byte) (identity.Identity, error) {
				said = h.id
				said.Claims = maps.Clone(said.Claims)
				c.change(&said)
				return said, nil
			}
			b := w.browser()
			b.signIn("hospital", "/")
			s := *b.mustSession()
			s.Device = true
			n := len(w.audit.all())
			v, err := w.portal.Reverify(t.Context(), &s, session.Kept{Bytes: keptOf(h.id), Verified: w.clock()})
			if err != nil || v.Gone || !slices.Equal(v.Grant.Groups, said.Groups) || !maps.Equal(v.Grant.Claims, said.Claims) || !v.Grant.Device {
				t.Errorf("%+v, %v", v, err)
			}
			events := slices.Clone(w.audit.all()[n:])
			for i := range events { // labels by chance hold every two letters
				events[i].Session, events[i].Ref = "", ""
			}
			if c.changed != (len(events) == 1) || c.changed && events[0].Reason != reasonChanged || strings.Contains(fmt.Sprintf("%+v", events), "p-") {
				t.Errorf("recorded %+v", events)
			}
		})
	}
	t.Run("what no session may hold ends it", func(t *testing.T) {
		w, s, k := asked(t, func(i identity.Identity) (identity.Identity, error) {
			i.Claims = map[string]string{"a": "x\ny"}
			return i, nil
		})
		if v, err := w.portal.Reverify(t.Context(), s, k); err != nil || !v.Gone || w.audit.last(t).Reason != "identity.claims" {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

// TestSameSignOnSameRights: a sign-in that ends goes on with the session of one that
// ended meanwhile only if rules see the same person in both.
func TestSameSignOnSameRights(t *testing.T) {
	t.Parallel()
	now := time.Now()
	id := withClaims().id
	id.Org = "ward 3"
	old := &session.Session{Grant: grant(id), Started: now}
	a := attempt{Created: now.Unix() - 10}
	if !sameSignOn(a, id, old, now) {
		t.Fatal("control: not the same")
	}
	for name, change := range map[string]func(*identity.Identity){
		"group": func(i *identity.Identity) { i.Groups = []string{"er"} }, "no group": func(i *identity.Identity) { i.Groups = nil },
		"claim": func(i *identity.Identity) { i.Claims = map[string]string{"patient_id": "p-8"} }, "no claim": func(i *identity.Identity) { i.Claims = nil },
		"org": func(i *identity.Identity) { i.Org = "ward 4" },
	} {
		other := id
		if change(&other); sameSignOn(a, other, old, now) {
			t.Errorf("another %s is the same", name)
		}
	}
}

// TestGrantSaysAll: nothing that a source vouches for gets lost on its way into a session.
func TestGrantSaysAll(t *testing.T) {
	t.Parallel()
	id := identity.Identity{
		Source: "a", Subject: "b", Username: "c", Name: "d", Email: "e", Roles: []string{"f"}, Groups: []string{"g"}, Claims: map[string]string{"h": "i"},
		Org: "j", ACR: "k", AMR: []string{"l"}, AuthTime: time.Unix(1, 0), Session: "m",
	}
	g := reflect.ValueOf(grant(id))
	for i := range g.NumField() {
		if name := g.Type().Field(i).Name; g.Field(i).IsZero() != (name == "Device") {
			t.Errorf("%s is %v", name, g.Field(i))
		}
	}
}
