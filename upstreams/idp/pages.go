package idp

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"html/template"
	"net/http"
)

var (
	//go:embed page.html
	pageText string
	//go:embed style.css
	styleText []byte

	pageTemplate = template.Must(template.New("page").Parse(pageText))
)

// view is what the page shows. Kind is form, error, home, leave, left or post.
type view struct {
	Kind              string
	Title, Problem    string
	Request, Username string
	Name              string
	SignedIn, Code    bool // Code: the form asks for the second factor
	Hidden            map[string]string
	Action, Nonce     string // of a form post
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

func randomName() string { return rand.Text() }
