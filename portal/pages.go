package portal

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/anteroom-proxy/anteroom/session"
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
	for _, name := range []string{"login", "logout", "signedout", "who", "error"} {
		all[name] = template.Must(template.ParseFS(files, "templates/layout.html", "templates/"+name+".html"))
	}
	return all
}()

// link is an address of ours, or of the application, with its words.
type link struct {
	Href, Text string
	Main       bool // the one that most people want
}

// view is what a page is filled with. Everything in it is ours, except the
// host and what the session says about the person.
type view struct {
	Prefix, CSS, Logo string
	Host              string
	Title             string
	Text              []string
	Links             []link
	Who               *whoView
	SwitchTo          string   // address of the form that switches user, empty for none
	Ref               string   // reference number in the audit log, empty for none
	Titles            []string // the ways to sign in
	Switching         bool     // the sign-in page comes after switching user
	Expired           bool     // there was no session to sign out of
}

func (p *Portal) newView(r *http.Request, title string) *view {
	host := siteName(r.Host)
	if !validHost(r.Host) {
		host = ""
	}
	return &view{
		Prefix: p.prefix, Host: host, Title: title,
		CSS: p.prefix + "static/" + styleCSS.name, Logo: p.prefix + "static/" + logoSVG.name,
	}
}

// show fills a page before a byte is sent, so that it comes whole or not.
func (p *Portal) show(w http.ResponseWriter, r *http.Request, name string, status int, v *view) {
	var body bytes.Buffer
	if err := pages[name].ExecuteTemplate(&body, "layout", v); err != nil {
		p.log.Error("filling page", "page", name, "error", err)
		p.writeProblem(w, errUnavailable, v.Ref)
		return
	}
	pageHeaders(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", fmt.Sprint(body.Len()))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body.Bytes())
	}
}

// errorLinks are the ways out of an error page.
type errorLinks struct {
	again  string // address that begins a sign-in
	others []link // other ways to sign in
	who    *session.Session
	home   bool // offer the application's start page
	change string
}

// showError answers with an error page, or with problem+json for a program.
func (p *Portal) showError(w http.ResponseWriter, r *http.Request, e *errorPage, ref string, l errorLinks) {
	if isAPIClient(r) {
		p.writeProblem(w, e, ref)
		return
	}
	p.errorPage(w, r, e, e.status, ref, l)
}

func (p *Portal) errorPage(w http.ResponseWriter, r *http.Request, e *errorPage, status int, ref string, l errorLinks) {
	v := p.newView(r, e.title)
	v.Text, v.Ref, v.SwitchTo = e.text, ref, l.change
	if l.who != nil {
		v.Who = p.whoView(l.who)
	}
	switch {
	case e == errNotSignedOut:
		v.Links = append(v.Links, link{Href: p.prefix + "logout", Text: "Try to sign out again", Main: true})
	case e == errNoAnswer && l.again != "":
		v.Links = append(v.Links, link{Href: l.again, Text: "Try again", Main: true})
	case l.again != "" && l.who == nil:
		v.Links = append(v.Links, link{Href: l.again, Text: "Sign in again", Main: true})
	case l.again != "":
		v.Links = append(v.Links, link{Href: "/", Text: "Go on to the application", Main: true}, link{Href: l.again, Text: "Sign in again"})
	}
	for _, o := range l.others {
		v.Links = append(v.Links, link{Href: o.Href, Text: "Sign in with " + o.Text})
	}
	if l.home {
		v.Links = append(v.Links, link{Href: "/", Text: "Go to the start page"})
	}
	p.show(w, r, "error", status, v)
}

// Refusal is a request that the gate refused, for Refuse.
type Refusal struct {
	Kind    string // no-session, forbidden, ambiguous-path, method, cross-origin, unavailable, misdirected
	Status  int    // zero means the status of the kind
	Ref     string // reference number in the audit log
	Session *session.Session
}

// Refuse shows the page of a refused request to a person. An unknown kind
// gets the page of an outage. Nothing of the request is on the page but the
// host; its path stands, checked, in the address that switching user returns
// to.
func (p *Portal) Refuse(w http.ResponseWriter, r *http.Request, ref Refusal) {
	e := refusals[ref.Kind]
	if e == nil {
		e = errUnavailable
	}
	status := ref.Status
	if status < 400 || status > 599 {
		status = e.status
	}
	to := "/"
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		to = returnTo(r.URL.RequestURI(), p.prefix)
	}
	l := errorLinks{who: ref.Session, home: to != "/" || e == errAmbiguous}
	switch {
	case e == errNoSession:
		p.challenge(w)
		l = errorLinks{again: p.loginURL("", to)}
	case e == errForbidden && ref.Session != nil:
		l.change = p.prefix + "switch"
		if to != "/" {
			l.change += "?return_to=" + url.QueryEscape(to)
		}
	}
	p.errorPage(w, r, e, status, ref.Ref, l)
}
