package portal

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/policy"
)

// foreign are the strings of section 4.7 of the attack tables. Each was made
// to leave the site in some parser, to smuggle a header, or to mean two things.
var foreign = []string{
	"", "///evil.example",
	"////evil.example/%2e%2e", "\\\\evil.example",
	"\\/evil.example", "//\\/evil.example",
	"/\t/evil.example", "/\r/evil.example",
	"/\v/evil.example", "/\t\\evil.example",
	"\t//evil.example", "\u00a0//evil.example",
	"/%09/evil.example", "/%0d/evil.example",
	"/%5cevil.example", "/%2fevil.example",
	"/%2f%2fevil.example", "/%252fevil.example",
	"/%68%74%74%70%3a//evil.example", "/..//evil.example",
	"/a/..//evil.example", "/./../../\\evil.example",
	"/%2e%2e//evil.example", "/.;//evil.example",
	"/..;/evil", "https://evil.example",
	"HTTPS://evil.example", "http:evil.example",
	"https:/evil.example", "https:\\\\evil.example",
	"https:/\\evil.example", "//https://evil.example//",
	"//evil.example/%2f..", "///evil.example/%2f%2e%2e",
	"http://app.example@evil.example", "https://app.example:80%40evil.example/",
	"http://app.example\\@evil.example", "http://evil.example%2f%2f.app.example/",
	"//evil.example:80#@app.example/", "https://app.example.evil.example",
	"https://evilapp.example", "https://app.example.:443/",
	".evil.example", "evil.example",
	":80", "//evil\u3002example",
	"/\u3031evil.example", "/\u309devil.example",
	"/\u30fcevil.example", "/%e3%80%b1evil.example",
	"<>//evil.example", "///\\;@evil.example",
	"http://;@evil.example",
	"http://0xd83ad6ce/", "http://0330.072.0326.0316/",
	"//[::ffff:216.58.214.206]/", "javascript:alert(1)",
	"JaVaScRiPt:alert(1)", "java\r\nscript:alert(1)",
	"java%0d%0ascript:alert(1)",
	"/javascript:alert(1)//x",
	"vbscript:x", "//evil%00.example",
	"/\x00/evil.example", "/ok\r\nSet-Cookie: a=b",
	"/%0d%0aSet-Cookie:a=b",
	"/%E5%98%8D%E5%98%8ASet-Cookie:a=b", "/\u202eelpmaxe.live//",
	"/\ufeff/evil.example", "#//evil.example",
	"../evil",

	// The same ideas again: advisories of section 6-A.4, and what http.Redirect
	// or a decoding proxy would make of a text that looks harmless.
	"/\\evil.example", "/./\\evil.example", "//evil/%2e%2e", "//evil.example",
	"/%2e/%5cevil.example", "/.", "/..", "/a/.", "/a/..", "/%2e", "/a/%2e%2e/b",
	"/a b", "/a\x7fb", "/%7f", "/%", "/%4", "/%zz", "/%u002f", "/a%00", "/a;v=1", "/a%3bv=1",
	"/a//b", "/a/%2e./b", "/%ff", "/%c0%af", "/?\x00", "/?\u00e9", "/#\\", "/?a=\\",
	"?a=b", "#", "*", "a", "@evil.example", " /ok", "/ok ", "/ok\n",
}

// local stay as they are.
var local = []string{
	"/", "/ok", "/medrecords/patient/12", "/a?b=c&d=//x",
	"/a?u=https%3A%2F%2Fevil.example", "/a#frag", "/a%20b", "/a:b",
	"/@me", "/a.b/c..d", "/~x",
	"/?q=1", "/a/", "/a?x=%00", "/a?b#c?d", "/.well-known/x", "/...a", "/.anteroom/", "/.anteroomy",
	"/" + strings.Repeat("a", maxReturnTo-1),
}

// own leads back into our pages: a loop, or a page that is not for people.
var own = []string{
	"/.anteroom", "/.anteroom/login", "/.anteroom/login?return_to=/x", "/.anteroom/login/hospital",
	"/.anteroom/logout", "/.anteroom/switch", "/.anteroom/callback/hospital?code=a&state=b",
	"/.anteroom/session", "/.anteroom/jwks.json", "/.anteroom/static/style.css",
	"/.ANTEROOM/logout", "/.anteroo%6d/logout", "/.anteroom#x", "/%2eanteroom/logout",
	"/" + strings.Repeat("a", maxReturnTo),
}

func TestP47ReturnTo(t *testing.T) {
	t.Parallel()
	for _, list := range [][]string{foreign, own} {
		for _, s := range list {
			t.Run(fmt.Sprintf("4.7 refused %.40q", s), func(t *testing.T) {
				if got := ReturnTo(s); got != "/" {
					t.Errorf("ReturnTo(%q) = %q, want /", s, got)
				}
			})
		}
	}
	for _, s := range local {
		t.Run(fmt.Sprintf("4.7 accepted %.40q", s), func(t *testing.T) {
			if got := ReturnTo(s); got != s {
				t.Errorf("ReturnTo(%q) = %q, want it unchanged", s, got)
			}
		})
	}
}

func TestReturnToOtherPrefix(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"/auth/":           "/auth/",
		"/auth/logout":     "/",
		"/auth":            "/",
		"/authors":         "/authors",
		"/.anteroom/login": "/.anteroom/login", // the application's own page then
	} {
		if got := returnTo(s, "/auth/"); got != want {
			t.Errorf("returnTo(%q) = %q, want %q", s, got, want)
		}
	}
}

// browserStaysHome reads an address as the WHATWG URL standard does where it
// differs from RFC 3986: tabs and line ends vanish, blanks at the ends too,
// "\" is "/", and two of them begin an authority.
func browserStaysHome(s string) bool {
	s = strings.Trim(s, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\v\f\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f ")
	s = strings.NewReplacer("\t", "", "\n", "", "\r", "", "\\", "/").Replace(s)
	return strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//")
}

// checkHome fails when an accepted address could leave the site in some
// parser, or break the header that it is written to.
func checkHome(t *testing.T, s string) {
	t.Helper()
	base := &url.URL{Scheme: "https", Host: "app.example", Path: "/"}
	u, err := url.Parse(s)
	if err != nil {
		t.Fatalf("accepted %q does not parse: %v", s, err)
	}
	abs := base.ResolveReference(u)
	if abs.Scheme != "https" || abs.Host != "app.example" || abs.User != nil {
		t.Errorf("accepted %q resolves to %q", s, abs)
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '\\' {
			t.Errorf("accepted %q holds byte %#x", s, s[i])
		}
	}
	p, _, _ := strings.Cut(s, "?")
	p, _, _ = strings.Cut(p, "#")
	plain, err := url.PathUnescape(p)
	if err != nil {
		t.Errorf("accepted %q has an escape that does not decode", s)
	}
	for _, form := range []string{s, p, path.Clean(p), plain, path.Clean(plain)} {
		if !browserStaysHome(form) {
			t.Errorf("accepted %q leaves the site as %q", s, form)
		}
	}
	if strings.HasPrefix(strings.ToLower(plain), DefaultPrefix) && s[:len(p)] != DefaultPrefix {
		t.Errorf("accepted %q lies among our own pages", s)
	}
	if _, err := policy.ParsePath(p); err != nil {
		t.Errorf("accepted %q, which the gate answers with 400: %v", s, err)
	}
}

func TestFuzzSeeds(t *testing.T) {
	t.Parallel()
	for name, least := range map[string]int{"FuzzReturnTo": 20, "FuzzEndpoints": 5} {
		seeds, err := os.ReadDir("testdata/fuzz/" + name)
		if err != nil || len(seeds) < least {
			t.Errorf("reading seeds of %s: %d found, error %v: a fuzz test without seeds shows nothing", name, len(seeds), err)
		}
	}
}

func FuzzReturnTo(f *testing.F) {
	f.Add("/a?b=c&d=//x")
	f.Fuzz(func(t *testing.T, s string) {
		got := ReturnTo(s)
		if got != "/" && got != s {
			t.Fatalf("ReturnTo(%q) = %q: neither refused nor unchanged", s, got)
		}
		checkHome(t, got)
	})
}
