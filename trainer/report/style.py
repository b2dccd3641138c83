"""How the page looks: light or dark as the reader's system is, one column on a narrow screen, whole on paper."""

STYLE = """
:root { --ink: #1d2127; --soft: #5d6673; --line: #dfe3e8; --paper: #ffffff; --card: #f6f7f9;
  --good: #00794f; --bad: #b3431c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #9aa4b2; --line: #353c46; --paper: #15181d; --card: #1e232a;
    --good: #4cc38a; --bad: #f0835a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px; max-width: 1240px; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { margin: 0; font-size: 26px; } h2 { margin: 28px 0 10px; font-size: 18px; }
header p, .note, figcaption { color: var(--soft); } header p { margin: 2px 0 18px; }
figcaption b { color: var(--ink); font-size: 15px; margin-right: 4px; } figcaption, .note { font-size: 13px; }
.warning { padding: 8px 12px; border-left: 4px solid var(--bad); background: var(--card); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 16px; }
.card { padding: 14px 18px; background: var(--card); border-radius: 10px; }
.card h2 { margin: 0 0 6px; font-size: 14px; font-weight: 600; color: var(--soft); } .card p { margin: 3px 0; }
.big { font-size: 32px; font-weight: 650; line-height: 1.2; } .big small { font-size: 15px; font-weight: 400; }
.good { color: var(--good); } .bad { color: var(--bad); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(520px, 100%), 1fr)); gap: 22px 28px;
  margin-top: 28px; }
figure { margin: 0; } svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 11.5px; } svg .label { fill: var(--ink); }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .empty { fill: var(--line); fill-opacity: .55; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; padding-left: 44px; font-size: 13px; }
.legend i { display: inline-block; width: 12px; height: 12px; margin-right: 5px; border-radius: 3px; vertical-align: -1px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; }
.numbers th, .numbers td { padding: 5px 14px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
.numbers th:first-child, .numbers td:first-child { text-align: left; padding-left: 0; }
.bars { width: 100%; } .bars td { padding: 2px 8px 2px 0; } .bars td:nth-child(2) { width: 70%; }
.bars td:last-child { text-align: right; padding: 0; } .bar { height: 12px; background: var(--line); border-radius: 3px; }
.bar i { display: block; height: 100%; border-radius: 3px; }
details { margin: 8px 0; padding: 8px 14px; background: var(--card); border-radius: 8px; }
summary { cursor: pointer; overflow-wrap: anywhere; }
.turns { list-style: none; margin: 8px 0; padding: 0; } .turns li { display: flex; gap: 12px; margin: 8px 0; }
.turns li > div { flex: 1; min-width: 0; }
.agent { flex: 0 0 76px; height: 22px; padding: 0 8px; border-radius: 11px; color: #fff; font-size: 12.5px; line-height: 22px;
  text-align: center; overflow: hidden; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; }
pre.seen { margin-top: 4px; padding-left: 10px; border-left: 3px solid var(--line); color: var(--soft); }
"""
