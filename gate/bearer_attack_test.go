package gate

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

// tokens finds a token of the desk, or a forged one.
var tokens = regexp.MustCompile(`\bt-(read|write|patient|dpop|forged)`)

// probe is one request to a resource server and the answer to it.
type probe struct {
	method, target string
	lines          []string
	status         int
	challenges     []string // all of WWW-Authenticate
	reason         string   // in the audit log
}

// try sends a probe and checks what holds for every refused token: the app sees nothing, no cookie is set, and the log has the
// reason and not the token.
func (r *rig) try(t *testing.T, p probe) {
	t.Helper()
	r.take()
	r.audit.take()
	replies := r.send(request(p.method, p.target, nil, p.lines...))
	if len(replies) != 1 || replies[0].StatusCode != p.status || !slices.Equal(replies[0].Header["Www-Authenticate"], p.challenges) {
		t.Fatalf("%s %s %q: %d\n%s\nwant %d\n%s", p.method, p.target, p.lines, replies[0].StatusCode, strings.Join(replies[0].Header["Www-Authenticate"], "\n"), p.status, strings.Join(p.challenges, "\n"))
	}
	if replies[0].Header["Set-Cookie"] != nil {
		t.Errorf("%q: a cookie %q", p.lines, replies[0].Header["Set-Cookie"])
	}
	if got := r.take(); p.status != 200 && (len(got) > 0 || replies[0].Header.Get("Content-Type") != "application/problem+json" || replies[0].Header.Get("Cache-Control") != "no-store") {
		t.Errorf("%q: the app received %+v, the answer has %v", p.lines, got, replies[0].Header)
	}
	events := r.audit.take()
	if len(events) != 1 || events[0].Reason != p.reason || events[0].Kind != "request" || tokens.MatchString(fmt.Sprintf("%+v", events)) {
		t.Errorf("%q: events %+v, want the reason %s", p.lines, events, p.reason)
	}
}

var (
	noToken = []string{"DPoP " + challengeDPoP, "Bearer " + challengeBearer, `Anteroom uri="/.anteroom/login"`}
	asProof = func(params string) []string {
		return []string{"DPoP " + params + ", " + challengeDPoP, "Bearer " + challengeBearer}
	}
	asBearer = func(params string) []string {
		return []string{"DPoP " + challengeDPoP, "Bearer " + params + ", " + challengeBearer}
	}
)

// Rows 61 to 64, 67, 68, 71 and 75 as the gate answers them, each in the words of RFC 6750 section 3, RFC 9449 section 7.1 and RFC
// 9470 section 3.
func TestBearerRows(t *testing.T) {
	r, _ := newDesk(t)
	const page = "Accept: text/html"
	for row, p := range map[string]probe{
		"row 61 in the query":             {"GET", "/notes/1?access_token=t-read", nil, 400, asBearer(`error="invalid_request"`), "request.query"},
		"row 61 in the query of a page":   {"GET", "/public/x?a=b&access_token=t-read", []string{page}, 400, asBearer(`error="invalid_request"`), "request.query"},
		"row 61 in a form":                {"POST", "/notes/1", []string{"Content-Type: application/x-www-form-urlencoded", "Content-Length: 19"}, 401, noToken, "no-session"},
		"row 62 two headers":              {"GET", "/notes/1", []string{"Authorization: Bearer t-read", "Authorization: Bearer t-read"}, 400, asBearer(`error="invalid_request"`), "request.authorization_twice"},
		"row 62 header and query":         {"GET", "/notes/1?access_token=t-read", []string{"Authorization: Bearer t-read"}, 400, asBearer(`error="invalid_request"`), "request.query"},
		"row 63 other case":               {"GET", "/notes/1", []string{"Authorization: bEaReR t-read"}, 200, nil, "allowed"},
		"row 63 no token":                 {"GET", "/notes/1", []string{"Authorization: Bearer"}, 400, asBearer(`error="invalid_request"`), "request.authorization"},
		"row 63 two":                      {"GET", "/notes/1", []string{"Authorization: Bearer t-read x"}, 400, asBearer(`error="invalid_request"`), "request.authorization"},
		"row 64 nothing":                  {"GET", "/notes/1", nil, 401, noToken, "no-session"},
		"row 64 another scheme":           {"GET", "/notes/1", []string{"Authorization: Basic dTpw"}, 401, noToken, "no-session"},
		"row 64 a bad token":              {"GET", "/notes/1", []string{"Authorization: Bearer t-forged", page}, 401, asBearer(`error="invalid_token"`), "token.signature"},
		"row 64 a bad token, public":      {"GET", "/public/x", []string{"Authorization: Bearer t-forged"}, 401, asBearer(`error="invalid_token"`), "token.signature"},
		"row 64 too few scopes":           {"GET", "/notes/1", []string{"Authorization: Bearer t-write", page}, 403, asBearer(`error="insufficient_scope", scope="notes.read"`), "scope"},
		"row 67 a scope for reading":      {"POST", "/notes/1", []string{"Authorization: Bearer t-read"}, 403, nil, "no-rule"}, // no scope helps: the subject is no writer
		"row 67 a scope, another subject": {"POST", "/notes/1", []string{"Authorization: Bearer t-write"}, 403, nil, "no-rule"},
		"row 67 denied to all":            {"GET", "/notes/Closed/", []string{"Authorization: Bearer t-read"}, 403, nil, "denied"},
		"row 76 no presence":              {"GET", "/members/x", []string{"Authorization: Bearer t-read", page}, 403, nil, "no-rule"},
		"row 68 level and time": {"GET", "/notes/secret", []string{"Authorization: Bearer t-read", page}, 401,
			asBearer(`error="insufficient_user_authentication", error_description="A stronger or more recent sign-in is needed", acr_values="mfa", max_age="300"`), "step-up"},
		"row 68 level": {"GET", "/public/secret", []string{"Authorization: Bearer t-read"}, 401,
			asBearer(`error="insufficient_user_authentication", error_description="A stronger or more recent sign-in is needed", acr_values="mfa"`), "step-up"},
		"row 68 with a proof": {"GET", "/notes/secret", []string{"Authorization: DPoP t-dpop", "DPoP: p"}, 401,
			asProof(`error="insufficient_user_authentication", error_description="A stronger or more recent sign-in is needed", acr_values="mfa", max_age="300"`), "step-up"},
		"row 69 a proof":               {"GET", "/notes/1", []string{"Authorization: DPoP t-dpop", "DPoP: p"}, 200, nil, "allowed"},
		"row 69 two proofs":            {"GET", "/notes/1", []string{"Authorization: DPoP t-dpop", "DPoP: p", "DPoP: p"}, 401, asProof(`error="invalid_dpop_proof"`), "dpop.missing"},
		"row 71 bound, as Bearer":      {"GET", "/notes/1", []string{"Authorization: Bearer t-dpop"}, 401, asBearer(`error="invalid_token"`), "token.bound"},
		"row 71 bound, without proof":  {"GET", "/notes/1", []string{"Authorization: DPoP t-dpop"}, 401, asProof(`error="invalid_dpop_proof"`), "dpop.missing"},
		"row 75 own patient":           {"GET", "/fhir/Patient/A-1/Observation", []string{"Authorization: Bearer t-patient"}, 200, nil, "allowed"},
		"row 75 own patient, search":   {"GET", "/fhir/Observation?patient=A-1", []string{"Authorization: Bearer t-patient"}, 200, nil, "allowed"},
		"row 75 another patient":       {"GET", "/fhir/Patient/B-2/Observation", []string{"Authorization: Bearer t-patient"}, 403, nil, "no-rule"},
		"row 75 another patient, list": {"GET", "/fhir/Observation?patient=A-1,B-2", []string{"Authorization: Bearer t-patient"}, 403, nil, "no-rule"},
		"row 75 a patient in a body":   {"GET", "/fhir/Observation?patient=A-1", []string{"Authorization: Bearer t-patient", "Content-Type: application/x-www-form-urlencoded", "Transfer-Encoding: chunked\r\n\r\nb\r\npatient=B-2\r\n0"}, 403, nil, "no-rule"},
		"row 75 two patients":          {"GET", "/fhir/Observation?patient=A-1&patient=B-2", []string{"Authorization: Bearer t-patient"}, 403, nil, "no-rule"},
		"row 75 by id":                 {"GET", "/fhir/Observation/7?patient=A-1", []string{"Authorization: Bearer t-patient"}, 403, nil, "no-rule"},
		"row 75 not said":              {"GET", "/fhir/Observation", []string{"Authorization: Bearer t-patient"}, 403, nil, "no-rule"},
		"row 75 without a patient":     {"GET", "/fhir/Patient/A-1", []string{"Authorization: Bearer t-read"}, 403, asBearer(`error="insufficient_scope", scope="patient/Observation.rs"`), "scope"},
	} {
		t.Run(row, func(t *testing.T) { r.try(t, p) })
	}
}

// A token and a session in one request: the token is judged, the session is not looked at, neither reaches the app, and the answer
// has no cookie although a renewal is due. With a bad token nobody falls back to the session.
func TestRow76TokenIsNotPresence(t *testing.T) { synctest.Test(t, testRow76) }

func testRow76(t *testing.T) {
	d := &desk{}
	r := &rig{t: t, audit: &recorder{}}
	r.sessions, r.store = newSessions(t, time.Now)
	r.gate = mustNew(t, Config{Policy: compile(t, fhir...), Sessions: r.sessions, Audit: r.audit, Bearer: d})
	dana := r.dana()
	time.Sleep(2 * time.Minute)
	d.fill(time.Now())
	var got http.Header
	app := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		got = q.Header.Clone()
		w.Header().Add("Set-Cookie", session.CookieToken+"=planted; Path=/; Secure")
		w.Write([]byte("app"))
	})
	ask := func(target string, authorization ...string) *httptest.ResponseRecorder {
		got = nil
		return direct(r.gate, "GET", target, func(q *http.Request) {
			q.Header = http.Header{"Cookie": {dana.cookie, "app=1"}, "Dpop": {"x"}, "Remote-User": {"root"}, "Anteroom-Assertion": {"x"}}
			if authorization != nil {
				q.Header["Authorization"] = authorization
			}
		}, app)
	}
	w := ask("/notes/1", "Bearer t-read")
	if w.Code != 200 || got.Get("Remote-User") != "app:ann" || got.Get("Remote-Groups") != "lab" || got["Cookie"] != nil || got["Authorization"] != nil || got["Dpop"] != nil || len(got["Remote-User"]) != 1 {
		t.Errorf("%d, the app received %v", w.Code, got)
	}
	if h := w.Header(); h["Set-Cookie"] != nil || h.Get("Cache-Control") != "private" {
		t.Errorf("the answer has %v", h)
	}
	e := r.audit.take()[0]
	if e.Session != "" || e.Source != "apps" || e.Subject != "ann" || e.Name != "app:ann" || e.ClientID != "heart-app" || !slices.Equal(e.Scopes, []string{"notes.read", "openid"}) || e.Decision != "allowed" {
		t.Errorf("event %+v", e)
	}
	for name, lines := range map[string][]string{"forged": {"Bearer t-forged"}, "none": {"Bearer"}, "twice": {"Bearer t-read", "Basic x"}} {
		if w := ask("/members/x", lines...); w.Code/100 != 4 || got != nil || w.Header()["Set-Cookie"] != nil {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	// What only the session may, the token may not, and the reverse.
	for target, lines := range map[string][]string{"/members/x": {"Bearer t-read"}, "/notes/1": nil} {
		if w := ask(target, lines...); w.Code != 403 || got != nil {
			t.Errorf("%s %q: %d", target, lines, w.Code)
		}
	}
	// A session without a token goes on as ever, and the app's own cookie with it.
	if w := ask("/members/x"); w.Code != 200 || got.Get("Remote-User") != "dana" || got.Get("Cookie") != "app=1" || !strings.Contains(w.Header().Get("Set-Cookie"), session.CookieToken+"=ey") {
		t.Errorf("session: %d %v %v", w.Code, got, w.Header())
	}
}

// Authorization and DPoP never reach the app of a resource server, and belong to every other app.
func TestRow22TokenStaysHere(t *testing.T) {
	r, _ := newDesk(t)
	other := newRig(t)
	lines := []string{"authorization: Basic dTpw", "dpop: proof", "Proxy-Authorization: Basic x"}
	for name, c := range map[string]struct {
		rig    *rig
		target string
		who    *person
		kept   bool
	}{
		"public":               {r, "/public/x", nil, false},
		"session":              {r, "/members/x", r.dana(), false},
		"no resource server":   {other, "/public/x", nil, true},
		"session, no resource": {other, "/members/x", other.dana(), true},
	} {
		replies := c.rig.send(request("GET", c.target, c.who, lines...))
		got := c.rig.take()
		if len(got) != 1 || replies[0].StatusCode != 200 {
			t.Fatalf("%s: %+v", name, replies)
		}
		if h := got[0].Header; (h["Authorization"] != nil) != c.kept || (h["Dpop"] != nil) != c.kept {
			t.Errorf("%s: the app received %v", name, h)
		}
	}
	// A token means nothing where the site accepts none, and it is no session either (row 76).
	if replies := other.send(request("GET", "/members/x", nil, "Authorization: Bearer t-read")); replies[0].StatusCode != 401 || !slices.Equal(replies[0].Header["Www-Authenticate"], noToken[2:]) {
		t.Errorf("%d %v", replies[0].StatusCode, replies[0].Header)
	}
}

// Row 72: the certificate is the connection's. Headers that speak of one are gone before the token is judged.
func TestRow72CertificateHeaders(t *testing.T) {
	r, d := newDesk(t)
	r.send(request("GET", "/notes/1", nil, "Authorization: Bearer t-read", "X-Client-Cert: x", "x_ssl_client_cert: x", "X-Forwarded-Client-Cert: x", "Client-Cert: x", "X-Forwarded-Host: evil.example", "X-HTTP-Method-Override: GET"))
	seen := d.take()
	if len(seen) != 1 {
		t.Fatalf("asked %d times", len(seen))
	}
	for name := range seen[0] {
		if isSpoofable(name) {
			t.Errorf("%s was seen", name)
		}
	}
}

// Row 35: a page is sent through the sign-in again, a script is told; nothing is changed by it.
func TestRow35StepUp(t *testing.T) {
	rules := []string{"allow any", "allow public /open/**", "require acr mfa,urn:x:high /secret /open/secret", "require amr otp,hwk /secret", "require amr face /secret", "require max_age 5m /secret /form"}
	r := newRig(t, func(c *Config) { c.Policy = compile(t, rules...) })
	dana := r.signIn(session.Grant{Username: "dana", ACR: "pwd", AuthTime: r.clock.now().Add(-time.Hour)})
	fit := r.signIn(session.Grant{Username: "fit", ACR: "mfa", AMR: []string{"face", "hwk"}, AuthTime: r.clock.now()})
	const all = "acr_values=mfa%20urn%3Ax%3Ahigh&amr=otp,hwk&amr=face&max_age=300"
	for name, c := range map[string]struct {
		method, target string
		who            *person
		lines          []string
		status         int
		location       string
		challenges     []string
	}{
		"page":        {"GET", "/secret?x=1", dana, []string{"Accept: text/html"}, 302, "/.anteroom/login?return_to=%2Fsecret%3Fx%3D1&" + all, nil},
		"form":        {"POST", "/secret", dana, []string{"Accept: text/html", "Origin: https://" + site, "Content-Length: 0"}, 303, "/.anteroom/login?return_to=%2F&" + all, nil},
		"time only":   {"GET", "/form", dana, []string{"Accept: text/html"}, 302, "/.anteroom/login?return_to=%2Fform&max_age=300", nil},
		"spelling":    {"GET", "/%73ecret", dana, []string{"Accept: text/html"}, 302, "/.anteroom/login?return_to=%2F%2573ecret&" + all, nil},
		"script":      {"GET", "/secret", dana, []string{"Accept: */*"}, 401, "", []string{`Bearer error="insufficient_user_authentication", error_description="A stronger or more recent sign-in is needed", acr_values="mfa urn:x:high", max_age="300"`, `Anteroom uri="/.anteroom/login?` + all + `"`}},
		"old script":  {"GET", "/secret", dana, []string{"Accept: text/html", "X-Requested-With: XMLHttpRequest"}, 401, "", nil},
		"enough":      {"GET", "/secret", fit, []string{"Accept: text/html"}, 200, "", nil},
		"nobody":      {"GET", "/secret", nil, []string{"Accept: text/html"}, 302, "/.anteroom/login?return_to=%2Fsecret", nil},
		"public":      {"GET", "/open/secret", nil, []string{"Accept: text/html"}, 302, "/.anteroom/login?return_to=%2Fopen%2Fsecret", nil},
		"public, who": {"GET", "/open/secret", dana, []string{"Accept: text/html"}, 302, "/.anteroom/login?return_to=%2Fopen%2Fsecret&acr_values=mfa%20urn%3Ax%3Ahigh", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r.audit.take()
			replies := r.send(request(c.method, c.target, c.who, c.lines...))
			got := r.take()
			if h := replies[0].Header; replies[0].StatusCode != c.status || h.Get("Location") != c.location || c.challenges != nil && !slices.Equal(h["Www-Authenticate"], c.challenges) {
				t.Errorf("%d %v", replies[0].StatusCode, h)
			}
			if (len(got) > 0) != (c.status == 200) {
				t.Errorf("the app received %+v", got)
			}
			if e := r.audit.take()[0]; c.who == dana && (e.Reason != "step-up" || e.Decision != "denied" || !strings.HasPrefix(e.Rule, "require ") || e.Session != audit.SessionLabel(dana.session.ID)) {
				t.Errorf("event %+v", e)
			}
		})
	}
	late := r.signIn(session.Grant{Username: "late", AuthTime: r.clock.now().Add(-5*time.Minute - time.Second)})
	if replies := r.send(request("GET", "/form", late)); replies[0].StatusCode != 401 || !strings.Contains(replies[0].body, "urn:anteroom:problem:step-up") {
		t.Errorf("five minutes and a second: %d %s", replies[0].StatusCode, replies[0].body)
	}
}

// The document of RFC 9728 is for everybody, at one address, and nothing else of the site is open with it.
func TestMetadata(t *testing.T) {
	r, _ := newDesk(t)
	for name, p := range map[string]probe{
		"page": {"GET", metadataPath, []string{"Accept: text/html"}, 200, nil, ""}, "HEAD": {"HEAD", metadataPath, nil, 200, nil, ""}, "with a query": {"GET", metadataPath + "?x", nil, 200, nil, ""}, "from a page elsewhere": {"GET", metadataPath, []string{"Origin: https://app.example.org", "Sec-Fetch-Site: cross-site"}, 200, nil, ""},
		"POST": {"POST", metadataPath, nil, 401, nil, ""}, "below": {"GET", metadataPath + "/x", nil, 401, nil, ""}, "slash": {"GET", metadataPath + "/", nil, 401, nil, ""}, "spelling": {"GET", "/%2ewell-known/oauth-protected-resource", nil, 401, nil, ""}, "case": {"GET", "/.well-known/OAuth-protected-resource", nil, 401, nil, ""},
	} {
		replies := r.send(request(p.method, p.target, nil, p.lines...))
		if len(replies) != 1 || replies[0].StatusCode != p.status || len(r.take()) > 0 {
			t.Errorf("%s: %+v", name, replies)
			continue
		}
		h := replies[0].Header
		if p.status == 200 && (h.Get("Content-Type") != "application/json" || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Credentials") != "" || p.method == "GET" && replies[0].body != `{"resource":"https://`+site+`"}` || p.method == "HEAD" && replies[0].body != "") {
			t.Errorf("%s: %v %q", name, h, replies[0].body)
		}
	}
	for host, want := range map[string]string{"APP.example:443": "https://app.example", "app.example:8443": "https://app.example:8443"} {
		w := direct(r.gate, "GET", metadataPath, func(q *http.Request) { q.Host = host }, nil)
		if w.Body.String() != `{"resource":"`+want+`"}` {
			t.Errorf("%s: %s", host, w.Body)
		}
	}
	if w := direct(r.gate, "GET", metadataPath, func(q *http.Request) { q.Host, q.TLS.ServerName = "none.example", "" }, nil); w.Code != 401 {
		t.Errorf("no document: %d", w.Code)
	}
	if w := direct(newRig(t).gate, "GET", metadataPath, nil, nil); w.Code != 401 {
		t.Errorf("no resource server: %d", w.Code)
	}
}

// N29: the form of a provider may come from its page, to its own callback and nowhere else.
func TestPostedAnswer(t *testing.T) {
	posted := func(source string) bool { return source == "hospital" }
	r := newRig(t, func(c *Config) { c.Posted = posted })
	for target, want := range map[string]int{
		"/.anteroom/callback/hospital": 200, "/.anteroom/callback/hospital?x=1": 200, "/.anteroom/callback/partner": 403, "/.anteroom/callback/hospital/": 403, "/.anteroom/callback/": 403, "/.anteroom/callback/x/hospital": 403,
		"/.anteroom/callback/hospit%61l": 403, "/.anteroom/logout": 403, "/.anteroom/login/hospital": 403, "/public/.anteroom/callback/hospital": 403, "/callback/hospital": 403, "/.ANTEROOM/callback/hospital": 400, "/.anteroom/callback/HOSPITAL": 403,
	} {
		for _, from := range []string{"Origin: https://idp.example\r\nSec-Fetch-Site: cross-site", "Origin: null", "Sec-Fetch-Site: cross-site"} {
			if replies := r.send(request("POST", target, nil, from, "Content-Length: 0")); replies[0].StatusCode != want {
				t.Errorf("%s %s: %d, want %d", target, from, replies[0].StatusCode, want)
			}
		}
	}
	for _, g := range []*Gate{r.gate, newRig(t).gate} {
		w := direct(g, "PUT", "/.anteroom/callback/hospital", func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") }, nil)
		if w.Code != 403 {
			t.Errorf("another method: %d", w.Code)
		}
	}
	if w := direct(newRig(t).gate, "POST", "/.anteroom/callback/hospital", func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") }, nil); w.Code != 403 {
		t.Errorf("nobody posts: %d", w.Code)
	}
}

// No value can end a quoted string, nor bring another parameter or line.
func TestQuote(t *testing.T) {
	for value, want := range map[string]string{`a"b`: `"a\"b"`, `a\`: `"a\\"`, "a\r\nX: y": `"aX: y"`, "é\x00\x7f": `""`, "": `""`, "a b, c=d": `"a b, c=d"`} {
		if got := quote(value); got != want {
			t.Errorf("%q: %s", value, got)
		}
	}
	x := &exchange{gate: &Gate{prefix: "/.anteroom/", bearer: &desk{}}, r: &http.Request{Host: site}, lack: &lack{need: policy.Need{ACR: []string{`x", y="`, "é&?"}, AMR: [][]string{{"a,b", "c"}}, MaxAge: 90 * time.Second}}}
	if got := x.loginURL("return_to=%2F"); got != "/.anteroom/login?return_to=%2F&acr_values=x%22%2C%20y%3D%22%20%C3%A9%26%3F&amr=a%2Cb,c&max_age=90" {
		t.Errorf("login %s", got)
	}
	if got := x.bearerLines("Odd", `a="b"`); !slices.Equal(got, asBearer(`a="b"`)) {
		t.Errorf("%q", got)
	}
}
