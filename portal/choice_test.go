package portal

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func choices(t *testing.T) *world {
	t.Helper()
	own, partner, eid := newRich("hospital", "General Hospital"), newRich("partner", "Partner Clinic"), newRich("eid", "National ID")
	own.more.domains, partner.more.domains = []string{"hospital.example", "old.example"}, []string{"clinic.example", "old.example"}
	return newWorld(t, own, partner, eid, newSource("plain", "Plain"))
}

// links are the ways to sign in on a page, in their order.
func waysOn(body string) (list []string) {
	for rest := body; ; {
		_, after, ok := strings.Cut(rest, "Sign in with ")
		if !ok {
			return list
		}
		title, next, _ := strings.Cut(after, "<")
		list, rest = append(list, title), next
	}
}

func TestChoice(t *testing.T) {
	t.Parallel()
	w := choices(t)
	b := w.browser()
	page := b.get("/.anteroom/login?return_to=%2Fx")
	expect(t, page, http.StatusOK)
	if got := strings.Join(waysOn(page.Body.String()), ","); got != "General Hospital,Partner Clinic,National ID,Plain" || strings.Contains(page.Body.String(), "Used last") {
		t.Errorf("offered %s", got)
	}
	if b.begin("eid", "/"); b.jar[choiceCookie] != "" {
		t.Error("a sign-in that only began is remembered")
	}
	b.signIn("eid", "/")
	if b.jar[choiceCookie] != "eid" {
		t.Errorf("the browser holds %v", b.jar)
	}
	b.do(http.MethodPost, "/.anteroom/logout")
	page = b.get("/.anteroom/login?return_to=%2Fx")
	expect(t, page, http.StatusOK, `id="last">Used last in this browser`)
	if got := strings.Join(waysOn(page.Body.String()), ","); got != "National ID,General Hospital,Partner Clinic,Plain" {
		t.Errorf("offered %s", got)
	}
	if hrefOn(t, page, "/.anteroom/login/") != "/.anteroom/login/eid?return_to=%2Fx" {
		t.Error("the first link is another")
	}
	for _, value := range []string{"gone", "", "../x", "<b>", "portal"} {
		b.jar[choiceCookie] = value
		page := b.get("/.anteroom/login")
		expect(t, page, http.StatusOK)
		if got := strings.Join(waysOn(page.Body.String()), ","); got != "General Hospital,Partner Clinic,National ID,Plain" || strings.Contains(page.Body.String(), "Used last") {
			t.Errorf("%q: offered %s", value, got)
		}
	}
	if len(w.portal.sources) != 4 || w.portal.sources[0].Name() != "hospital" {
		t.Error("the order of the configuration has changed")
	}
	if one := newWorld(t, newRich("hospital", "H")); one.browser().jar[choiceCookie] != "" {
		t.Error("remembered without a choice")
	}
}

func TestHomeRealm(t *testing.T) {
	t.Parallel()
	find := func(b *browser, email, query string) (string, int) {
		answer := b.form("/.anteroom/login/find"+query, url.Values{"email": {email}}.Encode())
		return answer.Body.String(), answer.Code
	}
	t.Run("one link, with the address as a hint", func(t *testing.T) {
		t.Parallel()
		w := choices(t)
		b := w.browser()
		page := b.get("/.anteroom/login?return_to=%2Fx")
		expect(t, page, http.StatusOK, `<form class="find" method="post" action="/.anteroom/login/find?return_to=%2Fx">`, `<label for="email">`, `type="email"`)
		if strings.Contains(page.Body.String(), "<script") {
			t.Error("a script")
		}
		answer := b.form("/.anteroom/login/find?return_to=%2Fx", "email=+Ada%40Clinic.EXAMPLE+")
		expect(t, answer, http.StatusOK, "Sign in with Partner Clinic", "Choose another way")
		if got := strings.Join(waysOn(answer.Body.String()), ","); got != "Partner Clinic" || answer.Header().Get("Location") != "" {
			t.Errorf("offered %s", got)
		}
		stateOf(t, b.get(hrefOn(t, answer, "/.anteroom/login/partner?")))
		if got := w.sources[1].lastBegin(t); got.LoginHint != "Ada@Clinic.EXAMPLE" {
			t.Errorf("began with %+v", got)
		}
		if to := hrefOn(t, answer, "/.anteroom/login?"); to != "/.anteroom/login?return_to=%2Fx" {
			t.Errorf("another way: %q", to)
		}
	})
	t.Run("what a page needs is carried", func(t *testing.T) {
		t.Parallel()
		w := choices(t)
		b := w.browser()
		answer := b.form("/.anteroom/login/find?"+stepQuery, "email=a%40clinic.example")
		stateOf(t, b.get(hrefOn(t, answer, "/.anteroom/login/partner?")))
		if got := w.sources[1].lastBegin(t).Need; len(got.ACR) != 2 {
			t.Errorf("asked for %+v", got)
		}
	})
	t.Run("unknown domains get the list, and are told", func(t *testing.T) {
		t.Parallel()
		w := choices(t)
		b := w.browser()
		for _, email := range []string{
			"a@nowhere.example", "a@", "@clinic.example", "clinic.example", "", "a@clinic.example.evil.example", "a@evilclinic.example", "a@.clinic.example", "a@clinic.example.",
			"a@clinic.example@evil.example", "<script>@x", strings.Repeat("a", 400) + "@clinic.example", "a@clinic\x00.example",
		} {
			body, code := find(b, email, "?return_to=%2Fx")
			if got := strings.Join(waysOn(body), ","); code != http.StatusOK || got != "General Hospital,Partner Clinic,National ID,Plain" || !strings.Contains(body, "No sign-in service is set up for such") {
				t.Errorf("%.40q: %d, offered %s", email, code, got)
			}
			if strings.Contains(body, "nowhere") || strings.Contains(body, "script>") {
				t.Errorf("the page shows what was typed: %s", body)
			}
		}
	})
	t.Run("nothing tells who exists", func(t *testing.T) {
		t.Parallel()
		b := choices(t).browser()
		one, _ := find(b, "adoe@hospital.example", "")
		two, _ := find(b, "nobody@hospital.example", "")
		if strings.ReplaceAll(one, "adoe", "x") != strings.ReplaceAll(two, "nobody", "x") {
			t.Error("the two differ")
		}
	})
	t.Run("a domain of two", func(t *testing.T) {
		t.Parallel()
		body, _ := find(choices(t).browser(), "a@old.example", "")
		if got := strings.Join(waysOn(body), ","); got != "General Hospital,Partner Clinic" {
			t.Errorf("offered %s", got)
		}
	})
	t.Run("S2 S6 only our own form", func(t *testing.T) {
		t.Parallel()
		b := choices(t).browser()
		const good = "email=a%40clinic.example"
		expect(t, b.form("/.anteroom/login/find", good, header("Origin", "https://evil.example")), http.StatusForbidden)
		expect(t, b.form("/.anteroom/login/find", good, header("Content-Type", "text/plain")), http.StatusUnsupportedMediaType)
		expect(t, b.form("/.anteroom/login/find", good+"&"+good), http.StatusBadRequest)
		expect(t, b.form("/.anteroom/login/find", good+"&x=1"), http.StatusBadRequest)
		expect(t, b.form("/.anteroom/login/find", "email="+strings.Repeat("a", 2<<10)), http.StatusRequestEntityTooLarge)
		expect(t, b.get("/.anteroom/login/find"), http.StatusNotFound)
	})
	t.Run("without domains there is no form", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newRich("a", "A"), newRich("b", "B"))
		b := w.browser()
		if page := b.get("/.anteroom/login"); strings.Contains(page.Body.String(), "<form") {
			t.Error("a form that finds nothing")
		}
		expect(t, b.form("/.anteroom/login/find", "email=a%40b"), http.StatusNotFound)
	})
	t.Run("behind a portal, with the site that waits", func(t *testing.T) {
		t.Parallel()
		own, partner := newRich("hospital", "General Hospital"), newRich("partner", "Partner Clinic")
		partner.more.domains = []string{"clinic.example"}
		w := newFleet(t, own, partner)
		u := w.person()
		last, _ := u.open(site, "/.anteroom/login?return_to=%2Fx")
		b := u.at(homeHost)
		answer := b.form(actionOn(t, last.answer.Body.String()), "email=a%40clinic.example")
		expect(t, answer, http.StatusOK, "Sign in with Partner Clinic")
		u.open(homeHost, hrefOn(t, answer, "/.anteroom/login/partner?"))
		if u.at(site).mustSession().Source != "partner" {
			t.Error("not signed in at the site")
		}
		expect(t, u.at(fincare).form("/.anteroom/login/find", "email=a%40clinic.example"), http.StatusNotFound)
	})
}

func actionOn(t *testing.T, body string) string {
	t.Helper()
	_, rest, _ := strings.Cut(body, `class="find" method="post" action="`)
	action, _, ok := strings.Cut(rest, `"`)
	if !ok {
		t.Fatalf("no form: %s", body)
	}
	return strings.ReplaceAll(action, "&amp;", "&")
}

func TestLoginHint(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"login_hint=ada":                             "ada",
		"login_hint=J%C3%BCrgen":                     "Jürgen",
		"login_hint=a&login_hint=b":                  "",
		"login_hint=a%0d%0ab":                        "",
		"login_hint=%ff":                             "",
		"login_hint=%E2%80%AEx":                      "",
		"login_hint=" + strings.Repeat("a", 321):     "",
		"login_hint=" + strings.Repeat("a", maxHint): strings.Repeat("a", maxHint),
		"x=1": "",
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := hintOf(q); got != want {
			t.Errorf("%.40q is %q", query, got)
		}
	}
}

// TestInvited is third-party initiated login: row 17, C33.
func TestInvited(t *testing.T) {
	t.Parallel()
	w := choices(t)
	iss := url.QueryEscape("https://partner.example")
	for name, c := range map[string]struct{ query, to, hint string }{
		"C33 plain":            {"iss=" + iss, "", ""},
		"C33 a hint":           {"iss=" + iss + "&login_hint=ada", "", "ada"},
		"a page of ours":       {"iss=" + iss + "&target_link_uri=" + url.QueryEscape("https://"+site+"/a?b=c"), "/a?b=c", ""},
		"a path":               {"iss=" + iss + "&target_link_uri=%2Fa", "/a", ""},
		"//evil":               {"iss=" + iss + "&target_link_uri=%2F%2Fevil.example", "", ""},
		"evil":                 {"iss=" + iss + "&target_link_uri=https%3A%2F%2Fevil.example%2F", "", ""},
		"our name as a prefix": {"iss=" + iss + "&target_link_uri=" + url.QueryEscape("https://"+site+".evil.example/x"), "", ""},
		"our name as a user":   {"iss=" + iss + "&target_link_uri=" + url.QueryEscape("https://"+site+"@evil.example/x"), "", ""},
		"our name, //evil":     {"iss=" + iss + "&target_link_uri=" + url.QueryEscape("https://"+site+"//evil.example"), "", ""},
		"two targets":          {"iss=" + iss + "&target_link_uri=%2Fa&target_link_uri=%2Fa", "", ""},
		"a need does not come": {"iss=" + iss + "&acr_values=gold", "", ""},
	} {
		t.Run("17 "+name, func(t *testing.T) {
			b := w.browser()
			page := b.get("/.anteroom/login?"+c.query, fromProvider)
			expect(t, page, http.StatusOK, "Sign in with Partner Clinic")
			if h := page.Header(); h.Get("Location") != "" || len(h["Set-Cookie"]) != 0 || !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || len(waysOn(page.Body.String())) != 1 {
				t.Errorf("%v %s", h, page.Body)
			}
			state := stateOf(t, b.get(hrefOn(t, page, "/.anteroom/login/partner")))
			if got := w.sources[1].lastBegin(t); got.LoginHint != c.hint || !got.Need.IsZero() {
				t.Errorf("began with %+v", got)
			}
			if c.to == "" {
				c.to = "/"
			}
			if got := b.get(callback("partner", state), fromProvider).Header().Get("Location"); got != c.to {
				t.Errorf("landed at %q", got)
			}
		})
	}
	for _, query := range []string{
		"iss=https%3A%2F%2Fevil.example", "iss=", "iss=" + iss + "&iss=" + iss, "iss=" + iss + "%2F", "iss=https%3A%2F%2FPARTNER.example", "iss=http%3A%2F%2Fpartner.example", "iss=partner",
		"iss=https%3A%2F%2Fevil.example&target_link_uri=%2F%2Fevil.example",
	} {
		t.Run("17 "+query, func(t *testing.T) {
			page := w.browser().get("/.anteroom/login?"+query, fromProvider)
			expect(t, page, http.StatusBadRequest, pageIssuer.title)
			if strings.Contains(page.Body.String(), "evil") || page.Header().Get("Location") != "" {
				t.Errorf("%s", page.Body)
			}
		})
	}
	t.Run("17 in a frame", func(t *testing.T) {
		expect(t, w.browser().get("/.anteroom/login?iss="+iss, fromProvider, header("Sec-Fetch-Dest", "iframe")), http.StatusForbidden)
	})
	t.Run("17 at a site that hands over", func(t *testing.T) {
		fleet := newFleet(t, newRich("partner", "Partner Clinic"))
		page := fleet.person().at(site).get("/.anteroom/login?target_link_uri=%2Fa&iss="+iss, fromProvider)
		expect(t, page, http.StatusOK, "Sign in with Partner Clinic")
		if to := hrefOn(t, page, "/.anteroom/login"); to != "/.anteroom/login?return_to=%2Fa" {
			t.Errorf("leads to %q", to)
		}
	})
}

func TestPublished(t *testing.T) {
	t.Parallel()
	own := newRich("hospital", "Hospital")
	own.more.jwks = []byte(`{"keys":[]}`)
	w := newWorld(t, own, newRich("none", "None"), newSource("plain", "Plain"))
	b := w.browser()
	answer := b.get("/.anteroom/jwks/hospital.json", program)
	expect(t, answer, http.StatusOK, `{"keys":[]}`)
	if h := answer.Header(); h.Get("Content-Type") != "application/jwk-set+json" || h.Get("Cache-Control") != "public, max-age=60" || len(h["Set-Cookie"]) != 0 {
		t.Errorf("%v", h)
	}
	for _, path := range []string{"jwks/none.json", "jwks/plain.json", "jwks/unknown.json", "jwks/hospital", "jwks/", "jwks/.json", "jwks/hospital.json/", "jwks/Hospital.json"} {
		if code := b.get("/.anteroom/" + path).Code; code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
	expect(t, b.do(http.MethodPost, "/.anteroom/jwks/hospital.json"), http.StatusMethodNotAllowed)
}
