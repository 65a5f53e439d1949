package hardening

import (
	"bytes"
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
			_, err := parseProtect([]byte(c.body), new([]raw))
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
		req, err := parseProtect(bytes.Clone(body), new([]raw))
		got := req.items
		if err != nil {
			if !errors.Is(err, ErrInput) && !errors.Is(err, errTooLarge) {
				t.Errorf("refused with %v", err)
			}
			return
		}
		var want struct {
			Items []struct {
				UID, Secret, Context string
				Slow                 *bool
			}
			UID, Context string
			Set          []string
			Pad          *int
		}
		if err := json.Unmarshal(body, &want); err != nil || len(want.Items) != len(got) || len(got) > maxBatch || (len(got) == 0) != (req.set != nil) {
			t.Fatalf("accepted %q: %v", body, err)
		}
		if set := req.set; set != nil {
			if string(set.uid) != want.UID || string(set.context) != want.Context || len(set.entries) != len(want.Set) || set.check() != nil || want.Pad != nil && *want.Pad != set.pad {
				t.Errorf("read %+v, an ordinary reader %+v", set, want)
			}
			for i, e := range set.entries {
				if string(e) != want.Set[i] {
					t.Errorf("read %q, an ordinary reader %q", e, want.Set[i])
				}
			}
		}
		for i, item := range got {
			w := want.Items[i]
			if string(item.uid) != w.UID || string(item.secret) != w.Secret || string(item.context) != w.Context || item.check() != nil || !utf8.Valid(item.secret) || item.fast != (w.Slow != nil && !*w.Slow) {
				t.Errorf("read %+v, an ordinary reader %+v", item, w)
			}
		}
	})
}

// FuzzVerifyRequest and FuzzRecordsRequest: what is accepted is what an ordinary JSON reader sees too.
func FuzzVerifyRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := parseVerify(bytes.Clone(body))
		if err != nil {
			if !errors.Is(err, ErrInput) {
				t.Errorf("refused with %v", err)
			}
			return
		}
		var want struct{ UID, Secret, Context, Record, Source string }
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("accepted %q: %v", body, err)
		}
		if string(v.uid) != want.UID || string(v.secret) != want.Secret || string(v.context) != want.Context || string(v.record) != want.Record || string(v.source) != want.Source || v.check() != nil {
			t.Errorf("read %+v, an ordinary reader %+v", v, want)
		}
	})
}

func FuzzRecordsRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, names := range [][]string{upgradeNames, censusNames} {
			req, err := parseRecords(bytes.Clone(body), names)
			if err != nil {
				if !errors.Is(err, ErrInput) && !errors.Is(err, errTooLarge) {
					t.Errorf("refused with %v", err)
				}
				continue
			}
			var want struct {
				Records []string
				Census  string
				Done    bool
			}
			if err := json.Unmarshal(body, &want); err != nil || len(want.Records) != len(req.records) || want.Census != req.census || want.Done != req.done || len(req.records) > maxBatch {
				t.Fatalf("accepted %q: %v", body, err)
			}
			for i, r := range req.records {
				if string(r) != want.Records[i] {
					t.Errorf("read %q, an ordinary reader %q", r, want.Records[i])
				}
			}
		}
	})
}
