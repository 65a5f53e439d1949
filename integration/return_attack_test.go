package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Table 4.7: return addresses that leave the site in some browser. Sign-in is where a person has just typed a password; whoever
// can choose the next page chooses a look-alike.
var hostileReturns = []string{
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
	// our own pages: a loop, or a sign-out after sign-in
	"/.anteroom/logout", "/.anteroom/login", "/.anteroom/login?return_to=/", "/.anteroom/callback/hospital?code=x", "/.anteroom/login/hospital",
	"/a;v=1", // a path that the gate refuses
	"/" + strings.Repeat("a", 1100),
}

// usableReturns must come back as they are.
var usableReturns = []string{
	"/", "/ok", "/medrecords/patient/12", "/a?b=c&d=//x", "/a?u=https%3A%2F%2Fevil.example", "/a#frag", "/a%20b", "/a:b", "/@me", "/a.b/c..d", "/~x",
}

func TestReturnAddresses(t *testing.T) {
	r := newRig(t, standard)
	r.op.ready(t)
	b := newBrowser(t)
	b.signIn(t, r.url(appHost, "/.anteroom/login?return_to=/"), "dana", "dana-pw") // from here on the provider answers at once
	for _, source := range []string{"login", "login/hospital"} {
		for i, text := range hostileReturns {
			t.Run(fmt.Sprintf("%s %d %.40q", source, i, text), func(t *testing.T) {
				p := r.signInReturning(t, b, source+"?return_to="+escape(text))
				if got := p.Header.Get("Location"); got != "/" {
					t.Errorf("return_to=%q ends at Location %q, want /", text, got)
				}
				for name, values := range p.Header {
					if name != "Location" && strings.Contains(strings.Join(values, " "), "evil") {
						t.Errorf("the text is in the header %s: %q", name, values)
					}
				}
			})
		}
	}
	for _, text := range usableReturns {
		t.Run("usable "+text, func(t *testing.T) {
			p := r.signInReturning(t, b, "login?return_to="+escape(text))
			if got := p.Header.Get("Location"); got != text {
				t.Errorf("return_to=%q ends at Location %q", text, got)
			}
		})
	}
	t.Run("given twice", func(t *testing.T) {
		p := r.signInReturning(t, b, "login?return_to=/a&return_to=/b")
		if got := p.Header.Get("Location"); got != "/" {
			t.Errorf("ends at Location %q, want /", got)
		}
	})
	t.Run("a referring page is not a return address", func(t *testing.T) {
		p := r.returning(t, b, navigation(t, "GET", r.url(appHost, "/.anteroom/login"), "", "Referer", "https://evil.example/"))
		if got := p.Header.Get("Location"); got != "/" {
			t.Errorf("ends at Location %q, want /", got)
		}
	})
}

// signInReturning signs in again through the provider's own session and returns the last answer of ours, a redirect.
func (r *rig) signInReturning(t *testing.T, b *browser, target string) page {
	t.Helper()
	return r.returning(t, b, navigation(t, "GET", r.url(appHost, "/.anteroom/"+target), ""))
}

func (r *rig) returning(t *testing.T, b *browser, req *http.Request) page {
	t.Helper()
	b.trace = nil
	p := b.do(t, req)
	for range 8 {
		if p.Status != http.StatusFound && p.Status != http.StatusSeeOther {
			break
		}
		if strings.HasPrefix(p.URL.Path, "/.anteroom/callback/") {
			return p
		}
		next, err := p.URL.Parse(p.Header.Get("Location"))
		if err != nil {
			t.Fatalf("Location %q: %v", p.Header.Get("Location"), err)
		}
		if next.Hostname() != appHost && next.Hostname() != "127.0.0.1" {
			t.Fatalf("sent to %s before the sign-in was complete", next)
		}
		p = b.do(t, navigation(t, "GET", next.String(), ""))
	}
	t.Fatalf("the way ended with %d at %s, want a redirect of the callback\n%s", p.Status, p.URL, strings.Join(b.trace, "\n"))
	return p
}

// escape is for values of a query: every byte that is not a letter or a digit is escaped.
func escape(s string) string { return url.QueryEscape(s) }
