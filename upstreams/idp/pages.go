package idp

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
	"slices"
)

var (
	//go:embed page.html
	pageText string
	//go:embed style.css
	styleText []byte

	pageTemplate = template.Must(template.New("page").Parse(pageText))
)

// view is what the page shows. Kind is form, error, home, leave or left.
type view struct {
	Kind              string
	Title, Problem    string
	Request, Username string
	Name              string
	SignedIn          bool
	Hidden            map[string]string
}

func (p *Provider) page(w http.ResponseWriter, status int, v view) {
	v.Title = p.title
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, v); err != nil {
		p.log.Error("showing a page", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes()) // an error here is a browser that went away
}

func (p *Provider) style(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Write(styleText)
}

// endSession ends the provider's own session, after the person confirmed it on
// our page: other sites can send a browser here (OpenID Connect RP-Initiated
// Logout 1.0, section 2).
func (p *Provider) endSession(w http.ResponseWriter, r *http.Request) {
	params, err := parameters(r)
	if err != nil {
		p.page(w, http.StatusBadRequest, view{Kind: "error", Problem: "The request could not be read."})
		return
	}
	confirmed := r.Method == http.MethodPost && params.Has("confirm") && http.NewCrossOriginProtection().Check(r) == nil
	if !confirmed {
		hidden := map[string]string{}
		for _, name := range []string{"client_id", "post_logout_redirect_uri", "state"} {
			if params.Has(name) {
				hidden[name] = params.Get(name)
			}
		}
		p.page(w, http.StatusOK, view{Kind: "leave", Hidden: hidden})
		return
	}
	if _, name, ok := p.session(r); ok {
		p.sessions.take(name)
	}
	p.setCookie(w, "_session", "")
	client := p.clients[params.Get("client_id")]
	if next := params.Get("post_logout_redirect_uri"); slices.Contains(client.PostLogoutRedirectURIs, next) {
		if u, err := url.Parse(next); err == nil {
			if params.Has("state") {
				query := u.Query()
				query.Set("state", params.Get("state"))
				u.RawQuery = query.Encode()
			}
			http.Redirect(w, r, u.String(), http.StatusSeeOther)
			return
		}
	}
	p.page(w, http.StatusOK, view{Kind: "left"})
}

func randomName() string { return rand.Text() }
