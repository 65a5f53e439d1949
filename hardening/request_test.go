package hardening

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRequestsReadStrictly(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want error // nil: accepted
	}{
		"plain":                     {`{"items":[{"uid":"u","secret":"s"}]}`, nil},
		"context":                   {"\t{ \"items\" : [ {\"context\":\"c\",\"secret\":\"s\",\"uid\":\"u\"} ] }\r\n", nil},
		"escapes":                   {`{"items":[{"uid":"u","secret":"\u00e9\ud83d\ude00\\u d800\n\u0000"}]}`, nil},
		"empty context":             {`{"items":[{"uid":"u","secret":"s","context":""}]}`, nil},
		"64 items":                  {items(64), nil},
		"65 items":                  {items(65), errTooLarge},
		"nothing":                   {``, ErrInput},
		"null":                      {`null`, ErrInput},
		"list":                      {`[]`, ErrInput},
		"string":                    {`"items"`, ErrInput},
		"no items":                  {`{}`, ErrInput},
		"items null":                {`{"items":null}`, ErrInput},
		"items object":              {`{"items":{}}`, ErrInput},
		"items empty":               {`{"items":[]}`, ErrInput},
		"item null":                 {`{"items":[null]}`, ErrInput},
		"item list":                 {`{"items":[[]]}`, ErrInput},
		"unknown member":            {`{"items":[{"uid":"u","secret":"s"}],"x":1}`, ErrInput},
		"unknown member of an item": {`{"items":[{"uid":"u","secret":"s","rounds":9}]}`, ErrInput},
		"Items":                     {`{"Items":[{"uid":"u","secret":"s"}]}`, ErrInput},
		"SECRET":                    {`{"items":[{"uid":"u","SECRET":"s"}]}`, ErrInput},
		"secret twice":              {`{"items":[{"uid":"u","secret":"s","secret":"t"}]}`, ErrInput},
		"secret twice, escaped":     {`{"items":[{"uid":"u","secret":"s","s\u0065cret":"t"}]}`, ErrInput},
		"items twice":               {`{"items":[{"uid":"u","secret":"s"}],"items":[{"uid":"u","secret":"s"}]}`, ErrInput},
		"behind it":                 {`{"items":[{"uid":"u","secret":"s"}]}{}`, ErrInput},
		"bracket behind it":         {`{"items":[{"uid":"u","secret":"s"}]}}`, ErrInput},
		"cut":                       {`{"items":[{"uid":"u","secret":"s"}]`, ErrInput},
		"cut in a value":            {`{"items":[{"uid":`, ErrInput},
		"comma":                     {`{"items":[{"uid":"u","secret":"s"}],}`, ErrInput},
		"comment":                   {`{"items":[{"uid":"u","secret":"s"}]} // x`, ErrInput},
		"byte order mark":           {"\ufeff" + `{"items":[{"uid":"u","secret":"s"}]}`, ErrInput},
		"not UTF-8":                 {"{\"items\":[{\"uid\":\"u\",\"secret\":\"\xff\"}]}", ErrInput},
		"half a surrogate":          {`{"items":[{"uid":"u","secret":"\ud800"}]}`, ErrInput},
		"half a surrogate and text": {`{"items":[{"uid":"u","secret":"\ud800abcdef"}]}`, ErrInput},
		"two first halves":          {`{"items":[{"uid":"u","secret":"\ud800\ud800"}]}`, ErrInput},
		"second half alone":         {`{"items":[{"uid":"u","secret":"\udc00"}]}`, ErrInput},
		"uid number":                {`{"items":[{"uid":1,"secret":"s"}]}`, ErrInput},
		"uid null":                  {`{"items":[{"uid":null,"secret":"s"}]}`, ErrInput},
		"uid missing":               {`{"items":[{"secret":"s"}]}`, ErrInput},
		"uid empty":                 {`{"items":[{"uid":"","secret":"s"}]}`, ErrInput},
		"uid of 256 bytes":          {`{"items":[{"uid":"` + strings.Repeat("u", 256) + `","secret":"s"}]}`, ErrInput},
		"secret missing":            {`{"items":[{"uid":"u"}]}`, ErrInput},
		"secret empty":              {`{"items":[{"uid":"u","secret":""}]}`, ErrInput},
		"secret list":               {`{"items":[{"uid":"u","secret":["s"]}]}`, ErrInput},
		"secret of 4097 bytes":      {`{"items":[{"uid":"u","secret":"` + strings.Repeat("s", 4097) + `"}]}`, ErrInput},
		"context with $":            {`{"items":[{"uid":"u","secret":"s","context":"a$b"}]}`, ErrInput},
		"context null":              {`{"items":[{"uid":"u","secret":"s","context":null}]}`, ErrInput},
		"deep":                      {`{"items":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, ErrInput},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseProtect([]byte(c.body))
			if !errors.Is(err, c.want) {
				t.Errorf("%v", err)
			}
			// The same object as a verification, with what that wants besides.
			if inner, ok := strings.CutPrefix(c.body, `{"items":[{`); ok && strings.HasSuffix(inner, "}]}") {
				_, err := parseVerify([]byte(`{"record":"-",` + strings.TrimSuffix(inner, "}]}") + "}"))
				if c.want != errTooLarge && !strings.Contains(inner, "}") && !errors.Is(err, c.want) {
					t.Errorf("as a verification: %v", err)
				}
			}
		})
	}
	for _, body := range []string{`{"uid":"u","secret":"s"}`, `{"uid":"u","secret":"s","record":null}`, `{"uid":"u","secret":"s","record":1}`, `x`} {
		if _, err := parseVerify([]byte(body)); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// TestLoneSurrogateInPieces: it reads what a JSON decoder accepted, and must not fall over anything else.
func TestLoneSurrogateInPieces(t *testing.T) {
	for raw, want := range map[string]bool{`"`: false, `\`: false, `\u`: false, `\ud8`: false, `\ud800`: true, `\ud800\u`: true, `\\ud800`: false} {
		if got := loneSurrogate([]byte(raw)); got != want {
			t.Errorf("%s: %v", raw, got)
		}
	}
}

func items(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"uid":"u%d","secret":"s"}`, i)
	}
	return `{"items":[` + strings.Join(list, ",") + `]}`
}

// FuzzProtectRequest: what is accepted is what an ordinary JSON reader sees too, within the bounds; refusals repeat nothing.
func FuzzProtectRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseProtect(body)
		if err != nil {
			if !errors.Is(err, ErrInput) && !errors.Is(err, errTooLarge) {
				t.Errorf("refused with %v", err)
			}
			return
		}
		var want struct {
			Items []struct{ UID, Secret, Context string }
		}
		if err := json.Unmarshal(body, &want); err != nil || len(want.Items) != len(got) || len(got) == 0 || len(got) > maxItems {
			t.Fatalf("accepted %q: %v", body, err)
		}
		for i, item := range got {
			w := want.Items[i]
			if item.UID != w.UID || item.Secret != w.Secret || item.Context != w.Context || item.check() != nil || !utf8.ValidString(item.Secret) {
				t.Errorf("read %+v, an ordinary reader %+v", item, w)
			}
		}
	})
}
