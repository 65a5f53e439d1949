package idptest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

var hiddenField = regexp.MustCompile(`name="request" value="([A-Z0-9]+)"`)

// Browser keeps the provider's cookies and runs no scripts.
type Browser struct {
	Code   string // of the second factor, typed when the form asks for one
	client *http.Client
}

// NewBrowser gives one that knows nobody, and the doctor's second factor.
func NewBrowser() *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(fmt.Sprintf("idptest: making a cookie jar: %v", err)) // never: there are no options
	}
	client := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Browser{Code: Code, client: client}
}

// SignIn opens the address that the client gave, fills in the form if there is
// one and gives the address that the provider sends the browser to, without
// going there.
func (b *Browser) SignIn(t testing.TB, address, username, password string) *url.URL {
	t.Helper()
	to, posted := b.answer(t, address, username, password)
	if posted != nil {
		t.Fatalf("the provider posts a form to %s", to)
	}
	return to
}

// SignInPosted is SignIn for response_mode=form_post: where the form goes, and
// what is in it.
func (b *Browser) SignInPosted(t testing.TB, address, username, password string) (*url.URL, url.Values) {
	t.Helper()
	to, posted := b.answer(t, address, username, password)
	if posted == nil {
		t.Fatalf("the provider redirects to %s", to)
	}
	return to, posted
}

func (b *Browser) answer(t testing.TB, address, username, password string) (*url.URL, url.Values) {
	t.Helper()
	response, err := b.client.Get(address)
	if err != nil {
		t.Fatalf("opening the provider: %v", err)
	}
	page := read(t, response)
	if field := hiddenField.FindStringSubmatch(page); field != nil {
		form := url.Values{"request": {field[1]}, "username": {username}, "password": {password}}
		if strings.Contains(page, `name="code"`) {
			form.Set("code", b.Code)
		}
		to := response.Request.URL.ResolveReference(&url.URL{Path: "/login"})
		response, err = b.client.Post(to.String(), "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatalf("sending the form: %v", err)
		}
		page = read(t, response)
	}
	if action, form := readAnswer(page); action != "" {
		to, err := url.Parse(action)
		if err != nil {
			t.Fatalf("the form goes to %q: %v", action, err)
		}
		return to, form
	}
	next, err := response.Location()
	if err != nil {
		t.Fatalf("the provider answers %d and sends the browser nowhere: %s", response.StatusCode, page)
	}
	return next, nil
}

// Open asks the provider for a page and gives where it sends the browser, nil
// when it shows the page.
func (b *Browser) Open(t testing.TB, address string) (*url.URL, string) {
	t.Helper()
	response, err := b.client.Get(address)
	if err != nil {
		t.Fatalf("opening the provider: %v", err)
	}
	page := read(t, response)
	next, err := response.Location()
	if err != nil {
		return nil, page
	}
	return next, page
}

// SignIn does it with a new browser.
func (s *Server) SignIn(t testing.TB, address, username, password string) *url.URL {
	t.Helper()
	return NewBrowser().SignIn(t, address, username, password)
}

func read(t testing.TB, response *http.Response) string {
	t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("reading a page: %v", err)
	}
	return string(body)
}
