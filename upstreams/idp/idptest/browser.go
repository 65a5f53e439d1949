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
type Browser struct{ client *http.Client }

// NewBrowser gives one that knows nobody.
func NewBrowser() *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(fmt.Sprintf("idptest: making a cookie jar: %v", err)) // never: there are no options
	}
	return &Browser{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// SignIn opens the address that the client gave, fills in the form if there is
// one and gives the address that the provider sends the browser to, without
// going there.
func (b *Browser) SignIn(t testing.TB, address, username, password string) *url.URL {
	t.Helper()
	response, err := b.client.Get(address)
	if err != nil {
		t.Fatalf("opening the provider: %v", err)
	}
	page := read(t, response)
	if response.StatusCode == http.StatusOK {
		field := hiddenField.FindStringSubmatch(page)
		if field == nil {
			t.Fatalf("the provider shows no form: %s", page)
		}
		form := url.Values{"request": {field[1]}, "username": {username}, "password": {password}}
		to := response.Request.URL.ResolveReference(&url.URL{Path: "/login"})
		response, err = b.client.Post(to.String(), "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatalf("sending the form: %v", err)
		}
		page = read(t, response)
	}
	next, err := response.Location()
	if err != nil {
		t.Fatalf("the provider answers %d and sends the browser nowhere: %s", response.StatusCode, page)
	}
	return next
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
