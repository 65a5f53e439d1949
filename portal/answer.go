package portal

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
)

const (
	// answerCookie begins the name of the cookie that holds a provider's answer
	// which came as a form; the rest is a hash of the attempt's state.
	answerCookie = "__Host-anteroom-answer-"

	// answerTTL is the time of one redirect on a bad line.
	answerTTL = time.Minute

	// answerMax bounds how many of them a browser holds for us: a stranger's page
	// can make it send us forms.
	answerMax = 3

	// maxAnswer bounds the body of such a form, in bytes.
	maxAnswer = 16 << 10
)

// Reasons of answers that are not taken.
const (
	reasonMode   = "callback.mode"   // it came in another way than the one that was asked for
	reasonAnswer = "callback.answer" // the cookie of a form post is missing, old or another's
)

// answer is what a provider's form brought. No cookie of ours comes with a form of
// another site (SameSite=Lax), so that the attempt and the session of the browser
// are out of sight: it waits, sealed, in a cookie of its own for the browser to come
// once more, by itself. The code never stands in an address.
type answer struct {
	Source, Host, State string
	Values              map[string]string
	Created             int64 // Unix seconds
}

// answerFields are what a source reads of an answer.
var answerFields = []string{"code", "state", "iss", "error"}

func answerName(state string) string {
	return answerCookie + base64.RawURLEncoding.EncodeToString(labelled(labelAnswerID, state)[:16])
}

// callbackOrPost is the callback of a source whose provider may answer with a form
// (OAuth 2.0 Form Post Response Mode).
func (p *Portal) callbackOrPost(s identity.Source) http.HandlerFunc {
	get := p.callback(s)
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			get(w, r)
			return
		}
		p.takePost(w, r, s)
	}
}

// takePost seals what the form brought and sends the browser on to the same
// address, which is the callback proper.
func (p *Portal) takePost(w http.ResponseWriter, r *http.Request, s identity.Source) {
	if embedded(r) {
		p.showError(w, r, pageCrossOrigin, "", errorLinks{})
		return
	}
	if !p.limit.allow(p.client(r)) {
		p.tooMany(w, r)
		return
	}
	refuse := func(f failure) { p.fail(w, r, s, f, "/") }
	values, e := readBody(w, r, maxAnswer)
	if e != nil || r.URL.RawQuery != "" || !plainAnswer(values) {
		refuse(failure{page: pageAttempt, reason: reasonQuery})
		return
	}
	a := answer{Source: s.Name(), Host: strings.ToLower(r.Host), State: values.Get("state"), Values: make(map[string]string), Created: p.now().Unix()}
	for _, name := range answerFields {
		if values.Has(name) {
			a.Values[name] = values.Get(name)
		}
	}
	text, err := p.sealJSON(r.Context(), labelAnswer, a)
	if err != nil {
		refuse(failure{page: pageUnavailable, reason: reasonSeal, err: fmt.Errorf("a provider's answer: %w", err)})
		return
	}
	c := ownCookie(answerName(a.State), text, answerTTL)
	if len(c.Name)+len(c.Value) > maxCookie {
		refuse(failure{page: pageRefused, reason: reasonAnswer, err: errAttemptSize})
		return
	}
	http.SetCookie(w, c)
	redirect(w, http.StatusSeeOther, p.prefix+"callback/"+s.Name()+"?state="+a.State)
}

// tidyAnswers deletes what forms have left in the browser: that of this state, which
// is used now or was nobody's, and all when there are too many. Those of other windows
// come for theirs themselves. It is done for strangers' forms as well: a page that
// sends many would make every request of the person too long for the server.
func tidyAnswers(w http.ResponseWriter, r *http.Request, state string) {
	own := answerName(state)
	held := make(map[string]bool)
	for name := range cookies(r) {
		if id, ok := strings.CutPrefix(name, answerCookie); ok && isToken(id) {
			held[name] = true
		}
	}
	drops := 0
	for name := range held {
		if drops < attemptDrops && (name == own || len(held) > answerMax) {
			dropCookie(w, name)
			drops++
		}
	}
}

// answered is what the provider has answered to an attempt, wherever that is: in
// the query, or in the cookie of its form post. An attempt has one of the two, and
// an answer that came in the other way was made by somebody else.
func (p *Portal) answered(r *http.Request, a attempt, q url.Values) (url.Values, *failure) {
	var own []string
	for name, text := range cookies(r) {
		if name == answerName(a.State) {
			own = append(own, text)
		}
	}
	posted := len(q) == 1 // the state, and nothing of an answer
	if a.Posted != posted {
		return nil, &failure{page: pageAttempt, reason: reasonMode}
	}
	if !a.Posted {
		return q, nil
	}
	if len(own) != 1 {
		return nil, &failure{page: pageAttempt, reason: reasonAnswer}
	}
	return p.openAnswer(r.Context(), a, own[0])
}

func (p *Portal) openAnswer(ctx context.Context, a attempt, text string) (url.Values, *failure) {
	var got answer
	if err := p.openJSON(ctx, labelAnswer, text, &got); err != nil {
		return nil, &failure{page: pageAttempt, reason: reasonAnswer, err: err}
	}
	age := p.now().Sub(time.Unix(got.Created, 0))
	if subtle.ConstantTimeCompare([]byte(got.State), []byte(a.State)) != 1 || got.Source != a.Source || got.Host != a.Host || age >= answerTTL || age < -attemptSkew {
		return nil, &failure{page: pageAttempt, reason: reasonAnswer}
	}
	q := make(url.Values, len(got.Values))
	for name, value := range got.Values {
		q.Set(name, value)
	}
	return q, nil
}
