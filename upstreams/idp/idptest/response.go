package idptest

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var (
	answerForm  = regexp.MustCompile(`<form method="post" action="([^"]*)" id="answer">`)
	answerField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

// spoilResponse changes what the browser carries back, in an address or a form.
func (s *Server) spoilResponse(f faults, answer *httptest.ResponseRecorder) {
	if answer.Code == http.StatusOK {
		if to, form := readAnswer(answer.Body.String()); to != "" && len(f.response) > 0 {
			for _, change := range f.response {
				change(form)
			}
			answer.Body.Reset()
			answer.Body.WriteString(writeAnswer(to, form))
		}
		return
	}
	to, err := url.Parse(answer.Header().Get("Location"))
	if err != nil || to.Host == "" {
		return
	}
	query := to.Query()
	for _, change := range f.response {
		change(query)
	}
	to.RawQuery = query.Encode()
	answer.Header().Set("Location", to.String())
}

// readAnswer finds the form of a form post response in a page.
func readAnswer(page string) (to string, form url.Values) {
	found := answerForm.FindStringSubmatch(page)
	if found == nil {
		return "", nil
	}
	form = url.Values{}
	for _, field := range answerField.FindAllStringSubmatch(page, -1) {
		form.Add(html.UnescapeString(field[1]), html.UnescapeString(field[2]))
	}
	return html.UnescapeString(found[1]), form
}

// writeAnswer makes such a page. It has no script: whoever needs one to be sent
// does not use faults.
func writeAnswer(to string, form url.Values) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<!doctype html><form method="post" action="%s" id="answer">`, html.EscapeString(to))
	for name, values := range form {
		for _, value := range values {
			fmt.Fprintf(&b, `<input type="hidden" name="%s" value="%s">`, html.EscapeString(name), html.EscapeString(value))
		}
	}
	return b.String() + `<button type="submit">Continue</button></form>`
}

// DropParameter takes a parameter out of the provider's response to the browser.
func DropParameter(name string) Fault { return Response(func(q url.Values) { q.Del(name) }) }

// SetParameter gives a parameter of the response these values, one or several.
func SetParameter(name string, values ...string) Fault {
	return Response(func(q url.Values) { q[name] = slices.Clone(values) })
}

// FailWith makes the response to the browser an error (OpenID Connect Core 1.0,
// section 3.1.2.6).
func FailWith(code string) Fault {
	return Response(func(q url.Values) {
		q.Del("code")
		q.Set("error", code)
	})
}

// restoreHint gives the good provider the ID token that it made, in place of the
// one that the client got.
func (s *Server) restoreHint(r *http.Request, body []byte) {
	restore := func(v url.Values) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		if made, known := s.original[v.Get("id_token_hint")]; known {
			v.Set("id_token_hint", made)
		}
		return v.Encode()
	}
	if query := r.URL.Query(); query.Has("id_token_hint") {
		r.URL.RawQuery = restore(query)
	}
	if form, err := url.ParseQuery(string(body)); err == nil && form.Has("id_token_hint") {
		r.Body = newBody(restore(form))
	}
}
