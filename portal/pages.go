package portal

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"strings"
)

//go:embed templates/*.html static/style.css static/logo.svg
var files embed.FS

// pageCSP allows our own style sheet and logo, forms that end on our own
// origin, and nothing else: no script, no frame around us, no base address
// (CSP Level 3). It is for our pages only; an application's pages would break.
const pageCSP = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// pageHeaders are on every answer that is not a plain redirect.
//
// Referrer-Policy is same-origin, not no-referrer: with the latter browsers
// send "Origin: null" with our own forms (Fetch, "append a request Origin
// header"), and signing out would be refused. Other sites learn nothing
// either way.
func pageHeaders(h http.Header) {
	h.Set("Content-Security-Policy", pageCSP)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// asset is a static file whose name holds a hash of its content, so that it
// may be cached for ever and an update is seen at once.
type asset struct {
	name, kind string
	body       []byte
}

var (
	assets   = make(map[string]*asset)
	styleCSS = newAsset("style.css", "text/css; charset=utf-8")
	logoSVG  = newAsset("logo.svg", "image/svg+xml")
)

func newAsset(name, kind string) *asset {
	body, err := files.ReadFile("static/" + name)
	if err != nil {
		panic(err) // the file is part of the binary
	}
	sum := sha256.Sum256(body)
	base, ext, _ := strings.Cut(name, ".")
	a := &asset{name: base + "." + hex.EncodeToString(sum[:8]) + "." + ext, kind: kind, body: body}
	assets[a.name] = a
	return a
}

func (a *asset) serve(w http.ResponseWriter, r *http.Request) {
	pageHeaders(w.Header())
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Write(a.body)
}

// pages are the templates by name, each within the layout.
var pages = func() map[string]*template.Template {
	all := make(map[string]*template.Template)
	for _, name := range []string{"login", "logout", "signedout", "who", "error", "sessions", "move", "limit", "notice", "why", "emergency", "begun"} {
		all[name] = template.Must(template.ParseFS(files, "templates/layout.html", "templates/"+name+".html"))
	}
	return all
}()

// link is an address of ours, or of the application, with its words.
type link struct {
	Href, Text string
	Main       bool // the one that most people want
	Last       bool // this browser's way to sign in the last time
}

// view is what a page is filled with. Everything in it is ours, except the
// host and what the session says about the person.
type view struct {
	Prefix, CSS, Logo string
	Host              string
	Title             string
	Heading           string // Title, unless the page says more than a window's name should
	Text              []string
	Links             []link
	Who               *whoView
	SwitchTo          string  // address of the form that switches user, empty for none
	Ref               string  // reference number in the audit log, empty for none
	Home              string  // host of the one portal for many sites, for the pages about signing out
	Places            *places // where an account is signed in
	Note              string  // what is good to know besides
	Why               *whyView
	Emergency         *emergencyView // the form
	Running           []begunView    // emergency accesses of this session here
	welcome
	farewell
}

// welcome is what the page with the ways to sign in says.
type welcome struct {
	Switching bool       // it comes after switching user
	Chosen    bool       // this browser took the first one before
	Realm     *realmView // nil: not by e-mail address
}

// farewell is what the pages about a sign-out say.
type farewell struct {
	Titles  []string // the ways to sign in that may remember the person
	Expired bool     // there was no session to sign out of
	Leave   *link    // to the provider's own sign-out
	Back    bool     // the browser comes back from there
	There   bool     // and the provider says that it did sign out
}

func (p *Portal) newView(r *http.Request, title string) *view {
	host := siteName(r.Host)
	if !validHost(r.Host) {
		host = ""
	}
	return &view{
		Prefix: p.prefix, Host: host, Title: title, Heading: title,
		CSS: p.prefix + "static/" + styleCSS.name, Logo: p.prefix + "static/" + logoSVG.name,
	}
}

// show fills a page before a byte is sent, so that it comes whole or not.
func (p *Portal) show(w http.ResponseWriter, r *http.Request, name string, status int, v *view) {
	var body bytes.Buffer
	if err := pages[name].ExecuteTemplate(&body, "layout", v); err != nil {
		p.log.Error("filling page", "page", name, "error", err)
		p.writeProblem(w, pageUnavailable, v.Ref)
		return
	}
	pageHeaders(w.Header())
	if strings.HasPrefix(r.URL.Path, p.prefix+"callback/") {
		// Code and state stand in this page's address (RFC 9700, section 4.2),
		// and its links lead to the application. It has no form.
		w.Header().Set("Referrer-Policy", "no-referrer")
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", fmt.Sprint(body.Len()))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body.Bytes())
	}
}
