package rekey

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
)

var (
	//go:embed report.html
	pageText string
	//go:embed report.css
	pageStyle string

	page = template.Must(template.New("report").Parse(pageText))
)

// verbs say the verbs in a headline.
var verbs = map[Verb]string{
	CompromisedData: "A data key was compromised", CompromisedApps: "A data key of applications was compromised",
	CompromisedMaster: "The master key was compromised", CompromisedSigning: "A signing key was compromised",
	CompromisedRing: "A key of a password ring was compromised", CompromisedClient: "A key for an identity provider was compromised",
	DestroyData: "A compromised data key, once more",
	RotateData:  "New data keys", RotateMaster: "A new master key",
	RotateRing: "New peppers", Migrate: "Data keys under another master key",
}

// purposes say in plain words what a store key is for.
var purposes = map[string]string{
	"anteroom/session/keys/v1": "signing keys of sessions", "anteroom/session/assertion-keys/v1": "signing keys of assertions",
	"anteroom/session/record/v1": "sessions", "anteroom/session/account-list/v1": "lists of a person’s sessions",
	"anteroom/session/renewal/v1": "renewals of sessions", "anteroom/session/kept/v1": "tokens of identity providers",
	"anteroom/session/provider-accounts/v1": "sessions of identity providers",
	"anteroom/emergency/record/v1":          "emergency accesses", "anteroom/emergency/bucket/v1": "lists of emergency accesses",
	"anteroom/emergency/buckets/v1": "lists of emergency accesses", "anteroom/emergency/person/v1": "counts of emergency accesses",
	"anteroom/emergency/overdue/v1": "reminders of reviews", "anteroom/budget/window/v1": "view budgets",
	"anteroom/portal/move-keep-id/v1": "tokens of sign-ins under way", "anteroom/oidc/client-key/v1": "client keys for identity providers",
	"anteroom/oidc/dpop-key/v1": "DPoP keys for identity providers",
}

// The page's parts, as the template takes them.
type (
	shownReport struct {
		*Report
		Style              template.CSS
		Allowed            string // the content security policy
		Headline, Sum      string
		From, To, Duration string
		Verdict, Kind      string
		Purposes           []shownCount
		Counts             []shownKey
		Lines              []shownStep
	}
	shownCount struct {
		Name, Purpose string
		N             int
	}
	shownKey struct {
		ID, State     string
		Before, After int
		Made, Master  string
	}
	shownStep struct {
		At, Title, Took, Detail string
		Count                   int
	}
)

const pageTime = "2 January 2006, 15:04:05 MST"

// WriteHTML writes one page of a report's text. It loads nothing and runs nothing: for a browser, for paper, and for whoever
// comes in ten years.
func WriteHTML(w io.Writer, text []byte) error {
	r := new(Report)
	if err := json.Unmarshal(text, r); err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	style, sum := sha256.Sum256([]byte(pageStyle)), sha256.Sum256(text)
	shown := shownReport{
		Report: r, Style: template.CSS(pageStyle), Sum: hex.EncodeToString(sum[:]),
		Allowed:  "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(style[:]) + "'; base-uri 'none'; form-action 'none'",
		Headline: cmp.Or(verbs[r.Verb], string(r.Verb)),
		From:     r.Began.UTC().Format(pageTime), To: r.Ended.UTC().Format(pageTime), Duration: lasted(r.Ended.Sub(r.Began)),
	}
	shown.Verdict, shown.Kind = r.verdict()
	for _, name := range slices.Sorted(maps.Keys(r.Exposed)) {
		shown.Purposes = append(shown.Purposes, shownCount{cmp.Or(purposes[name], name), name, r.Exposed[name]})
	}
	shown.Counts = r.shownKeys()
	for _, s := range r.Steps {
		line := shownStep{At: s.Began.UTC().Format("15:04:05"), Title: cmp.Or(titles[s.Name], s.Name), Detail: s.Detail, Count: s.Count}
		if !s.Ended.IsZero() {
			line.Took = lasted(s.Ended.Sub(s.Began))
		}
		shown.Lines = append(shown.Lines, line)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, shown); err != nil {
		return fmt.Errorf("making the page: %w", err)
	}
	_, err := w.Write(bytes.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return '?' // also marks that turn the direction of text
	}, b.Bytes()))
	return err
}

// verdict is the first sentence of the page.
func (r *Report) verdict() (text, kind string) {
	counted := len(r.Before) > 0 || len(r.After) > 0 || r.Values > 0
	switch {
	case r.Aside != nil && r.Aside.Count > 0 && !r.Forced:
		return fmt.Sprintf("The compromised key is refused. %d values name it that nobody can open; for their sake it was not destroyed.", r.Aside.Count), "act"
	case r.Left > 0:
		return fmt.Sprintf("%d values were given up: they are still under a key that is gone, and nothing opens them.", r.Left), "bad"
	case len(r.Gone) > 0 && counted:
		return "Nothing is left under the compromised key, and the key is destroyed.", "good"
	case counted:
		return "Nothing is left under the former key.", "good"
	case r.Verb == CompromisedRing || r.Verb == CompromisedApps:
		return "Nothing new is sealed with the compromised key. Applications have to act, as the notes say.", "act"
	}
	return "Done.", "good"
}

func (r *Report) shownKeys() (list []shownKey) {
	seen := map[string]bool{}
	row := func(k Key) {
		seen[k.ID] = true
		made := ""
		if !k.Created.IsZero() {
			made = k.Created.UTC().Format("2006-01-02 15:04")
		}
		list = append(list, shownKey{k.ID, k.State, r.Before[k.ID], r.After[k.ID], made, k.Master})
	}
	for _, k := range r.Keys {
		row(k)
	}
	for _, id := range slices.Sorted(maps.Keys(r.Before)) {
		if !seen[id] {
			row(Key{ID: id, State: stateOf(id, r)})
		}
	}
	return list
}

func stateOf(id string, r *Report) string {
	switch {
	case slices.Contains(r.Gone, id):
		return Destroyed
	case strings.HasPrefix(id, "v1:"):
		return "master key"
	}
	return "–"
}

func lasted(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", max(0, d.Milliseconds()))
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
}
