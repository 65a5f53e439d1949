package portal

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/anteroom-proxy/anteroom/identity"
)

const (
	// choiceCookie names the way to sign in that this browser took last. It opens
	// nothing: it puts one link before the others.
	choiceCookie = "__Host-anteroom-choice"
	choiceTTL    = 365 * 24 * time.Hour

	// maxHint bounds what is said to a provider about who comes, in bytes: an e-mail
	// address (RFC 5321, section 4.5.3.1) and a little more.
	maxHint = 320
)

// rememberChoice is for installations where there is a choice.
func (p *Portal) rememberChoice(w http.ResponseWriter, source string) {
	if len(p.sources) > 1 {
		http.SetCookie(w, ownCookie(choiceCookie, source, choiceTTL))
	}
}

// chosenFirst are the ways to sign in with the one that this browser took last in
// front, and whether there is such a one.
func (p *Portal) chosenFirst(r *http.Request) (list []identity.Source, known bool) {
	for name, value := range cookies(r) {
		if name != choiceCookie {
			continue
		}
		i := slices.IndexFunc(p.sources, func(s identity.Source) bool { return s.Name() == value })
		if i < 0 || len(p.sources) < 2 {
			break
		}
		list = append(list, p.sources[i])
		return append(append(list, p.sources[:i]...), p.sources[i+1:]...), true
	}
	return p.sources, false
}

// hintOf reads what a link says that the person is called at the provider. It goes
// there as it is, and nowhere else.
func hintOf(q url.Values) string {
	hint := single(q["login_hint"])
	if len(hint) > maxHint || !utf8.ValidString(hint) || strings.ContainsFunc(hint, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return hint
}

// realmView is the form that finds a way to sign in by an e-mail address.
type realmView struct {
	Action  string
	Unknown bool // it has just not found one
}

// findsRealms reports whether this host offers that form.
func (p *Portal) findsRealms(r *http.Request) bool {
	return !p.away(r) && len(p.sources) > 1 && slices.ContainsFunc(p.sources, func(s identity.Source) bool {
		h, ok := s.(identity.HomeRealm)
		return ok && len(h.Domains()) > 0
	})
}

// findRealm answers the form with links to the ways to sign in that people of that
// e-mail domain take. Only the domain decides, so that nothing tells which addresses
// exist. A redirect to a provider would be stopped by our form-action.
func (p *Portal) findRealm(w http.ResponseWriter, r *http.Request) {
	if !fromOurPage(r) {
		p.showError(w, r, pageCrossOrigin, "", errorLinks{})
		return
	}
	form, e := readForm(w, r, "email")
	if e != nil {
		p.showError(w, r, e, "", errorLinks{})
		return
	}
	g, ok := p.goalOf(w, r)
	if !ok {
		return
	}
	address := strings.TrimSpace(form["email"])
	found := p.realmsOf(address)
	g.hint = ""
	if len(found) == 0 {
		p.showChoice(w, r, g, false, true)
		return
	}
	others := g
	g.hint = hintOf(url.Values{"login_hint": {address}})
	v := p.newView(r, "Sign in")
	v.Text = []string{"This is where people with such an e-mail address sign in."}
	for _, s := range found {
		v.Links = append(v.Links, link{Href: p.beginURL(s.Name(), g), Text: "Sign in with " + s.Title(), Main: true})
	}
	v.Links = append(v.Links, link{Href: p.beginURL("", others), Text: "Choose another way"})
	p.show(w, r, "notice", http.StatusOK, v)
}

// realmsOf are the ways to sign in of an address's domain.
func (p *Portal) realmsOf(address string) (found []identity.Source) {
	i := strings.LastIndexByte(address, '@')
	if i < 1 || len(address) > maxHint {
		return nil
	}
	domain := strings.ToLower(address[i+1:])
	for _, s := range p.sources {
		if h, ok := s.(identity.HomeRealm); ok && domain != "" && slices.Contains(h.Domains(), domain) {
			found = append(found, s)
		}
	}
	return found
}

// invited is for who comes from a provider's own page of applications (OpenID
// Connect Core 1.0, section 4). Nothing begins before the person says so: the link
// may be a stranger's, who wants them to sign in as somebody.
func (p *Portal) invited(w http.ResponseWriter, r *http.Request, q url.Values) {
	if embedded(r) {
		p.showError(w, r, pageCrossOrigin, "", errorLinks{})
		return
	}
	var links []link
	issuer := single(q["iss"])
	g := goal{to: p.ownTarget(r, single(q["target_link_uri"])), hint: hintOf(q)}
	for _, s := range p.sources {
		if v, ok := s.(identity.Vouched); !ok || issuer == "" || v.Issuer() != issuer {
			continue
		}
		href := p.beginURL(s.Name(), g)
		if p.away(r) {
			href = p.loginURL("", g.to) // the one portal asks where
		}
		links = append(links, link{Href: href, Text: "Sign in with " + s.Title(), Main: true})
	}
	if len(links) == 0 {
		p.showError(w, r, pageIssuer, "", errorLinks{home: true})
		return
	}
	v := p.newView(r, "Sign in")
	v.Text = []string{"You came from another website to sign in here. Go on if that is what you want."}
	v.Links = links
	p.show(w, r, "notice", http.StatusOK, v)
}

// ownTarget reads the address that a provider wants a person to be led to: one of
// this site, whole or as a path. Anything else becomes "/".
func (p *Portal) ownTarget(r *http.Request, target string) string {
	if rest, ok := strings.CutPrefix(target, "https://"+strings.ToLower(r.Host)); ok {
		target = rest
	}
	return returnTo(target, p.prefix)
}
