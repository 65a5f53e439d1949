package portal

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

// as makes the next sign-ins those of somebody.
func (s *source) as(subject string) {
	s.set(func() { s.id.Subject, s.id.Username = subject, "user-"+subject })
}

// knownAs signs somebody in and says whether the browser was a known one.
func (b *browser) knownAs(subject string) bool {
	b.w.t.Helper()
	b.w.sources[0].as(subject)
	delete(b.jar, roundCookie)
	b.signIn("hospital", "/")
	s := b.mustSession()
	if s.Subject != subject {
		b.w.t.Fatalf("signed in as %s", s.Subject)
	}
	return s.Device
}

// TestDeviceKnown: when a browser is a known one.
func TestDeviceKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	const day = 24 * time.Hour
	at := time.Duration(0)
	for _, step := range []struct {
		at   time.Duration
		want bool
	}{
		{0, false}, {59 * time.Minute, false}, // whoever signs in twice is no better known
		{time.Hour, true}, {time.Hour + time.Second, true},
		{179 * day, true}, {358 * day, true}, // each sign-in counts from itself
		{538 * day, false}, {538*day + 59*time.Minute, false}, {538*day + time.Hour, true},
	} {
		w.advance(step.at - at)
		at = step.at
		if got := b.knownAs("ann"); got != step.want {
			t.Errorf("after %v: known is %v", step.at, got)
		}
	}
	if w.browser().knownAs("ann") {
		t.Error("a new browser is known")
	}
}

// TestAttackDeviceOfAnother: a shared workstation. Sent: a sign-in of somebody else with
// the cookie of a known browser. What would happen: one person's history speaks for
// another one. What must hold: every account by itself, at its own source and issuer.
func TestAttackDeviceOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.knownAs("ann")
	w.advance(2 * time.Hour)
	if !b.knownAs("ann") {
		t.Fatal("control: the browser is not known")
	}
	for _, other := range []string{"bob", "Ann", "an", "annn"} {
		if b.knownAs(other) {
			t.Errorf("%q is known by ann's cookie", other)
		}
	}
	r := b.request("GET", "/")
	ann := identity.Identity{Source: "hospital", Issuer: "https://hospital.example", Subject: "ann"}
	if !w.portal.knowsDevice(r, ann) {
		t.Error("ann is forgotten because others signed in")
	}
	for name, change := range map[string]func(*identity.Identity){
		"another source":          func(i *identity.Identity) { i.Source = "lab" },
		"another issuer":          func(i *identity.Identity) { i.Issuer += "/" },
		"no issuer":               func(i *identity.Identity) { i.Issuer = "" },
		"the parts moved":         func(i *identity.Identity) { i.Source, i.Issuer = "hospitalh", "ttps://hospital.example" },
		"the other parts moved":   func(i *identity.Identity) { i.Issuer, i.Subject = "https://hospital.exampl", "eann" },
		"her name at another one": func(i *identity.Identity) { i.Subject, i.Username = "sub-2", "user-ann" },
	} {
		i := ann
		change(&i)
		if w.portal.knowsDevice(r, i) {
			t.Errorf("%s is known", name)
		}
	}
}

// TestAttackForgedDevice: what we did not seal, for this purpose, says nothing, and does
// not keep anybody from signing in.
func TestAttackForgedDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.knownAs("ann")
	w.advance(2 * time.Hour)
	good := b.jar[deviceCookie]
	other := "A"
	if good[:1] == other {
		other = "B"
	}
	who := deviceID(identity.Identity{Source: "hospital", Issuer: "https://hospital.example", Subject: "ann"})
	now := w.clock().Unix()
	seal := func(label string, v any) string {
		text, err := w.portal.sealJSON(t.Context(), label, v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	plain, err := json.Marshal([]deviceAccount{{who, now - 7200, now - 7200}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		value string
		known bool
	}{
		"control":                        {good, true},
		"control, of now":                {seal(labelDevice, []deviceAccount{{who, now - 7200, now}}), true},
		"empty":                          {"", false},
		"not sealed":                     {string(plain), false},
		"cut":                            {good[:len(good)-4], false},
		"changed":                        {other + good[1:], false},
		"padded":                         {good + "=", false},
		"sealed for another purpose":     {seal(labelLast, []deviceAccount{{who, now - 7200, now}}), false},
		"of another form":                {seal(labelDevice, map[string]any{"i": who}), false},
		"with a member more":             {seal(labelDevice, []map[string]any{{"i": who, "f": now - 7200, "l": now, "x": 1}}), false},
		"from the future":                {seal(labelDevice, []deviceAccount{{who, now - 7200, now + 3600}}), false},
		"first after last":               {seal(labelDevice, []deviceAccount{{who, now - 7200, now - 10800}}), false},
		"since ever":                     {seal(labelDevice, []deviceAccount{{who, 0, now}}), false},
		"no account":                     {seal(labelDevice, []deviceAccount{{nil, now - 7200, now}}), false},
		"half an account":                {seal(labelDevice, []deviceAccount{{who[:8], now - 7200, now}}), false},
		"too old":                        {seal(labelDevice, []deviceAccount{{who, 1, now - int64(deviceTTL/time.Second)}}), false},
		"the ninth":                      {seal(labelDevice, append(slices.Repeat([]deviceAccount{{who[:4], 1, now}}, 8), deviceAccount{who, now - 7200, now - 7200})), false},
		"larger than a browser keeps":    {strings.Repeat("A", maxCookie+1), false},
		"twice":                          {good + "; " + deviceCookie + "=" + good, false},
		"a good one and one of nobody's": {"x; " + deviceCookie + "=" + good, false},
	} {
		c1 := b.clone()
		c1.jar[deviceCookie] = c.value
		if got := c1.knownAs("ann"); got != c.known {
			t.Errorf("%s: known is %v", name, got)
		}
		if c1.jar[deviceCookie] == c.value && !c.known {
			t.Errorf("%s: the browser keeps it", name)
		}
	}
}

// TestCopiedDevice is the accepted limit: whoever copies the cookie has made his browser
// a known one for that account. He still has to sign in as it: the cookie alone opens
// nothing, and is nothing for another account.
func TestCopiedDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.knownAs("ann")
	w.advance(2 * time.Hour)
	thief := w.browser()
	thief.jar[deviceCookie] = b.jar[deviceCookie]
	thief.mustNoSession()
	expect(t, thief.get("/.anteroom/session", program), http.StatusUnauthorized)
	if thief.knownAs("eve") {
		t.Error("the copy speaks for another account")
	}
	if !thief.knownAs("ann") {
		t.Error("the comment at deviceCookie says otherwise")
	}
}

// TestDeviceForgets: a browser remembers eight accounts, the ones that were here last.
func TestDeviceForgets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	for i := range 9 {
		b.knownAs(fmt.Sprint("p", i))
		w.advance(2 * time.Hour)
		if i == 4 && !b.knownAs("p0") { // comes to the front again
			t.Error("p0 is not known")
		}
	}
	if n := len(b.jar[deviceCookie]); n > 1200 {
		t.Errorf("%d bytes", n)
	}
	for name, want := range map[string]bool{"p0": true, "p1": false, "p2": true, "p8": true} {
		if got := b.clone().knownAs(name); got != want {
			t.Errorf("%s: known is %v", name, got)
		}
	}
}

// TestDeviceOfFinishedSignIns: only a sign-in that has reached the browser counts, and
// signing out takes nothing away.
func TestDeviceOfFinishedSignIns(t *testing.T) {
	t.Parallel()
	t.Run("refused", func(t *testing.T) {
		w := newWorld(t, newSource("hospital", "Hospital"))
		b := w.browser()
		w.sources[0].set(func() { w.sources[0].finishErr = &identity.Failure{Kind: identity.ErrDeclined, Reason: "fake"} })
		b.get(callback("hospital", b.begin("hospital", "/")), fromProvider)
		if b.jar[deviceCookie] != "" {
			t.Error("a sign-in that was refused is remembered")
		}
	})
	t.Run("not recorded", func(t *testing.T) {
		w := newWorld(t, newSource("hospital", "Hospital"))
		b := w.browser()
		state := b.begin("hospital", "/")
		w.audit.set(refuseAll)
		b.get(callback("hospital", state), fromProvider)
		b.mustNoSession()
		if b.jar[deviceCookie] != "" {
			t.Error("a sign-in that could not be recorded is remembered")
		}
	})
	t.Run("not moved", func(t *testing.T) {
		w := newWorld(t, newSource("hospital", "Hospital")).limits(1, session.Move)
		w.browser().signIn("hospital", "/")
		b := w.browser()
		_, ticket := b.waits(chrome, "/")
		if b.jar[deviceCookie] != "" {
			t.Error("a sign-in that waits is remembered")
		}
		expect(t, b.form("/.anteroom/move", "id="+ticket), http.StatusSeeOther)
		if b.jar[deviceCookie] == "" || b.mustSession().Device {
			t.Error("a sign-in that was moved is not remembered, or is a known one")
		}
	})
	t.Run("signed out", func(t *testing.T) {
		w := newWorld(t, newSource("hospital", "Hospital"))
		b := w.browser()
		b.knownAs("ann")
		expect(t, b.do("POST", "/.anteroom/logout"), http.StatusOK)
		w.advance(time.Hour)
		if !b.knownAs("ann") {
			t.Error("signing out makes the browser a stranger")
		}
	})
}

func refuseAll(audit.Event) bool { return true }

// TestDeviceByHandOff: the cookie lives where people sign in, and the sites are told.
func TestDeviceByHandOff(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.person()
	if u.mustOpen(site, "/").Device {
		t.Error("a new browser is known")
	}
	first := u.at(homeHost).jar[deviceCookie]
	w.later(2 * time.Hour)
	for _, b := range u.jars {
		b.closed()
	}
	for _, host := range []string{site, fincare} {
		if !u.mustOpen(host, "/").Device {
			t.Errorf("%s is not told", host)
		}
		if u.at(host).jar[deviceCookie] != "" {
			t.Errorf("%s holds the cookie", host)
		}
	}
	if first == "" || u.at(homeHost).jar[deviceCookie] == first {
		t.Error("the portal's cookie was not written again")
	}
	// A cookie that was planted at a site is nothing there.
	v := w.person()
	v.at(site).jar[deviceCookie] = u.at(homeHost).jar[deviceCookie]
	if v.mustOpen(site, "/").Device {
		t.Error("a site's own cookie counts")
	}
}
