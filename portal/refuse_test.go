package portal

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func (b *browser) refuse(method, target string, ref Refusal) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	b.w.portal.Refuse(answer, b.request(method, target), ref)
	return answer
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.signIn("hospital", "/")
	s := b.mustSession()

	t.Run("forbidden", func(t *testing.T) {
		answer := b.refuse("GET", "/patients/12?tab=lab", Refusal{Kind: "forbidden", Ref: "ABCDEFGHJK", Session: s})
		expect(t, answer, http.StatusForbidden, "This page is not for your role", "Dr. Ada Doe", "adoe", "doctor", "<strong>"+site+"</strong>", "ABCDEFGHJK",
			`<form method="post" action="/.anteroom/switch?return_to=%2Fpatients%2F12%3Ftab%3Dlab">`, "Switch user", `href="/"`, `href="/.anteroom/"`)
	})
	t.Run("forbidden start page has no link to itself", func(t *testing.T) {
		answer := b.refuse("GET", "/", Refusal{Kind: "forbidden", Ref: "ABCDEFGHJK", Session: s})
		if strings.Contains(answer.Body.String(), `href="/"`) {
			t.Error("the way out leads back here")
		}
		expect(t, answer, http.StatusForbidden, `action="/.anteroom/switch"`)
	})
	t.Run("forbidden POST returns to the start", func(t *testing.T) {
		expect(t, b.refuse("POST", "/patients/12", Refusal{Kind: "forbidden", Session: s}), http.StatusForbidden, `action="/.anteroom/switch"`)
	})
	t.Run("forbidden without a session offers no switch", func(t *testing.T) {
		if body := b.refuse("GET", "/x", Refusal{Kind: "forbidden"}).Body.String(); strings.Contains(body, "<form") || strings.Contains(body, "Show my sign-in") {
			t.Error("a form for nobody")
		}
	})
	for kind, status := range map[string]int{
		"no-session": 401, "forbidden": 403, "ambiguous-path": 400, "method": 405, "cross-origin": 403, "unavailable": 503, "misdirected": 421,
		"": 503, "something new": 503,
	} {
		t.Run("kind "+kind, func(t *testing.T) {
			e := refusals[kind]
			if e == nil {
				e = pageUnavailable
			}
			if e == pageForbidden {
				e = pageStranger
			}
			expect(t, b.refuse("GET", "/%2e%2e//evil.example", Refusal{Kind: kind, Ref: "ABCDEFGHJK"}), status, e.title, "ABCDEFGHJK")
		})
	}
	t.Run("status of the gate", func(t *testing.T) {
		expect(t, b.refuse("GET", "/x", Refusal{Kind: "method", Status: 501}), 501)
		for _, odd := range []int{0, 200, 302, 1000, -1} {
			expect(t, b.refuse("GET", "/x", Refusal{Kind: "method", Status: odd}), http.StatusMethodNotAllowed)
		}
	})
	t.Run("zero refusal", func(t *testing.T) {
		expect(t, b.refuse("GET", "/x", Refusal{}), http.StatusServiceUnavailable, pageUnavailable.title)
	})
	t.Run("HEAD", func(t *testing.T) {
		if answer := b.refuse("HEAD", "/x", Refusal{Kind: "forbidden"}); answer.Body.Len() != 0 || answer.Code != 403 {
			t.Errorf("%d with %d bytes", answer.Code, answer.Body.Len())
		}
	})
}

// allPages makes each page once, by the name of its file.
func allPages(t *testing.T) map[string]string {
	one := newWorld(t, newSource("hospital", "General Hospital"))
	two := newWorld(t, newSource("hospital", "General Hospital"), newSource("city", "City health network"))
	b, several := one.browser(), two.browser()
	out := map[string]string{
		"login-several":   several.get("/.anteroom/login?return_to=%2Fpatients").Body.String(),
		"attempt-missing": several.get(callback("city", newState())).Body.String(),
		"not-found":       b.get("/.anteroom/nothing").Body.String(),
	}
	two.sources[1].beginErr = errStep
	out["begin-unknown"] = several.get("/.anteroom/login/city").Body.String()
	two.sources[1].beginErr = nil
	two.sources[1].redirect = "/"
	out["provider-down"] = several.get("/.anteroom/login/city?return_to=%2Fx").Body.String()

	b.signIn("hospital", "/")
	one.advance(125e9)
	s := b.mustSession()
	out["who"] = b.get("/.anteroom/").Body.String()
	out["logout"] = b.get("/.anteroom/logout").Body.String()
	out["used-while-signed-in"] = b.get(callback("hospital", newState())).Body.String()
	for kind := range refusals {
		out["refused-"+kind] = b.refuse("GET", "/patients/12", Refusal{Kind: kind, Ref: "7K3QWV9ZP2", Session: s}).Body.String()
	}
	for _, k := range missing {
		out[fmt.Sprintf("why-%d", k.bit)] = b.refuse("GET", "/patients/12", Refusal{Kind: "forbidden", Ref: "7K3QWV9ZP2", Session: s, Missing: k.bit}).Body.String()
	}
	out["why-several"] = b.refuse("GET", "/patients/12", Refusal{Kind: "forbidden", Ref: "7K3QWV9ZP2", Session: s, Missing: 63, Contact: "IT help desk, telephone 5-1234, help@hospital.example"}).Body.String()
	out["why-stranger"] = b.refuse("GET", "/patients/12", Refusal{Kind: "forbidden", Ref: "7K3QWV9ZP2"}).Body.String()
	for name, e := range map[string]*errorPage{"declined": pageDeclined, "refused": pageRefused, "too-large": pageTooLarge, "loop": pageLoop, "too-many": pageTooMany,
		"not-signed-out": pageNotSignedOut, "no-sources": pageNoSources} {
		answer := httptest.NewRecorder()
		one.portal.showError(answer, b.request("GET", "/x"), e, "7K3QWV9ZP2", errorLinks{again: "/.anteroom/login"})
		out[name] = answer.Body.String()
	}
	out["switch"] = b.get("/.anteroom/login?switch=1").Body.String()
	out["signed-out"] = b.do("POST", "/.anteroom/logout").Body.String()
	out["signed-out-expired"] = b.get("/.anteroom/logout").Body.String()

	long := newSource("hospital", "Vereinigte Krankenhäuser der Region")
	long.id.Name = "Univ.-Prof. Dr. Maximiliane-Alexandra von Württemberg-Hohenlohe"
	long.id.Username = strings.Repeat("very-long-user-name.", 8)
	for i := range 12 {
		long.id.Roles = append(long.id.Roles, "department-of-cardiology-"+string(rune('a'+i)))
	}
	for name, body := range emergencyPages(t) {
		out[name] = body
	}
	three := newWorld(t, long)
	c := three.browser()
	c.signIn("hospital", "/")
	out["who-long"] = c.get("/.anteroom/").Body.String()
	return out
}

// TestPagesAreWellFormed looks at what a screen reader and a keyboard need.
// With ANTEROOM_PAGES set to a folder it leaves the pages there, to be looked
// at in a browser.
func TestPagesAreWellFormed(t *testing.T) {
	t.Parallel()
	all := allPages(t)
	for name, body := range all {
		t.Run(name, func(t *testing.T) {
			doc, err := html.Parse(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			checkReferences(t, doc)
			count := map[string]int{}
			for n := range doc.Descendants() {
				if n.Type != html.ElementNode {
					continue
				}
				count[n.Data]++
				attr := map[string]string{}
				for _, a := range n.Attr {
					attr[a.Key] = a.Val
				}
				checkElement(t, n, attr)
			}
			for tag, want := range map[string]int{"h1": 1, "main": 1, "header": 1, "footer": 1, "title": 1, "script": 0, "style": 0, "iframe": 0, "base": 0} {
				if count[tag] != want {
					t.Errorf("%d <%s>, want %d", count[tag], tag, want)
				}
			}
			if count["a"]+count["form"] == 0 && name != "refused-misdirected" && name != "not-found" && name != "refused-method" {
				t.Log("no way out of this page")
			}
		})
	}
	if dir := os.Getenv("ANTEROOM_PAGES"); dir != "" {
		writePages(t, dir, all)
	}
}

func checkElement(t *testing.T, n *html.Node, attr map[string]string) {
	t.Helper()
	for key := range attr {
		if key == "style" || strings.HasPrefix(key, "on") || key == "autofocus" || key == "tabindex" || key == "target" {
			t.Errorf("<%s> has %s", n.Data, key)
		}
	}
	switch n.Data {
	case "html":
		if attr["lang"] != "en" {
			t.Error("no language")
		}
	case "img":
		if _, ok := attr["alt"]; !ok {
			t.Error("an image without alt")
		}
	case "a", "link":
		if strings.HasPrefix(attr["href"], "#") {
			break // to an element of the page; see checkReferences
		}
		if !strings.HasPrefix(attr["href"], "/") || strings.HasPrefix(attr["href"], "//") {
			t.Errorf("<%s> leads to %q", n.Data, attr["href"])
		}
	case "form":
		if attr["method"] != "post" || !strings.HasPrefix(attr["action"], DefaultPrefix) {
			t.Errorf("a form to %q by %q", attr["action"], attr["method"])
		}
	case "button":
		if attr["type"] != "submit" {
			t.Error("a button that does not say what it does")
		}
	}
}

// checkReferences: ids are unique, what refers to one finds it, and each field that a
// person fills in has one label.
func checkReferences(t *testing.T, doc *html.Node) {
	t.Helper()
	ids, labels := map[string]int{}, map[string]int{}
	each := func(f func(n *html.Node, attr map[string]string)) {
		for n := range doc.Descendants() {
			attr := map[string]string{}
			for _, a := range n.Attr {
				attr[a.Key] = a.Val
			}
			if n.Type == html.ElementNode {
				f(n, attr)
			}
		}
	}
	each(func(n *html.Node, attr map[string]string) {
		if id, ok := attr["id"]; ok {
			ids[id]++
		}
		if n.Data == "label" {
			labels[attr["for"]]++
		}
	})
	for id, n := range ids {
		if n != 1 || id == "" {
			t.Errorf("%d elements are called %q", n, id)
		}
	}
	each(func(n *html.Node, attr map[string]string) {
		refs := append(strings.Fields(attr["aria-describedby"]), strings.Fields(attr["aria-labelledby"])...)
		if to, ok := strings.CutPrefix(attr["href"], "#"); ok {
			refs = append(refs, to)
		}
		for _, id := range refs {
			if ids[id] == 0 {
				t.Errorf("<%s> refers to %q, which is not there", n.Data, id)
			}
		}
		field := n.Data == "textarea" || n.Data == "select" || n.Data == "input" && attr["type"] != "hidden"
		if field && (attr["id"] == "" || labels[attr["id"]] != 1) {
			t.Errorf("<%s name=%q> has %d labels", n.Data, attr["name"], labels[attr["id"]])
		}
	})
}

// writePages leaves the pages and their static files as a site.
func writePages(t *testing.T, dir string, all map[string]string) {
	t.Helper()
	static := filepath.Join(dir, DefaultPrefix, "static")
	if err := os.MkdirAll(static, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, a := range assets {
		if err := os.WriteFile(filepath.Join(static, a.name), a.body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, body := range all {
		if err := os.WriteFile(filepath.Join(dir, name+".html"), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
