"""The page's style sheet and its only script (a time cursor across a segment's charts)."""

STYLE = """
:root{--bg:#f6f7f9;--card:#fff;--ink:#16202b;--soft:#5b6875;--faint:#e3e7ec;--grid:#eceff3;--main:#0072b2;
  --hedge:#c77700;--good:#007a5a;--bad:#c23b00;--price:#3a4653;--band:#c9d2dc;--up:#8fa1b3;--down:#4d5b69;
  --syn:#8a4b08;--syn-bg:#fff3df;--real:#0b5c46;--real-bg:#e2f5ee;--cut:#a8457e;color-scheme:light dark}
@media (prefers-color-scheme:dark){
  :root{--bg:#0f1419;--card:#171e26;--ink:#e6ebf0;--soft:#98a5b3;--faint:#2a333d;--grid:#232b34;
  --main:#56b4e9;--hedge:#f0a830;--good:#3cc99a;--bad:#ff7a45;--price:#c4ced8;--band:#33404d;--up:#8496a8;
  --down:#5a6977;--syn:#ffc46b;--syn-bg:#3a2a10;--real:#6fdcb6;--real-bg:#10322a;--cut:#e58cc0}
}
  *{box-sizing:border-box}
  body{margin:0;background:var(--bg);color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans","DejaVu Sans",sans-serif}
  .page{max-width:1160px;margin:0 auto;padding:28px 20px 48px}
  h1{font-size:26px;margin:0 0 4px;letter-spacing:-.01em}
  h2{font-size:20px;margin:0}
  h3{font-size:15px;margin:0 0 2px}
  .lead{color:var(--soft);margin:0 0 18px}
  .note{color:var(--soft);font-size:13px;margin:0 0 8px}
  .kpis{display:grid;grid-template-columns:repeat(auto-fit,minmax(158px,1fr));gap:10px;margin:0 0 12px}
  .kpi{background:var(--card);border:1px solid var(--faint);border-radius:10px;padding:12px 14px}
  .kpi b{display:block;white-space:nowrap;font-size:24px;line-height:1.2;font-variant-numeric:tabular-nums}
  .kpi .what{color:var(--soft);font-size:13px}
  .kpi b small{font-size:15px;font-weight:500}
  .kpi .by{color:var(--soft);font-size:12px;line-height:1.4;display:block}
  .highlight{fill:var(--bad);opacity:.16}
  .good{color:var(--good)}
  .bad{color:var(--bad)}
  .counts{color:var(--soft);font-size:13px;margin:0 0 26px}
  .counts b{color:var(--ink);font-weight:600}
  .segment{margin:34px 0 0}
  .segment>header{display:flex;flex-wrap:wrap;gap:6px 12px;align-items:center;margin-bottom:10px}
  .badge{font-size:12px;font-weight:600;padding:2px 10px;border-radius:20px}
  .badge.real{color:var(--real);background:var(--real-bg)}
  .badge.synthetic{color:var(--syn);background:var(--syn-bg)}
  .segment.synthetic .card{border-top:3px solid var(--syn)}
  .card{background:var(--card);border:1px solid var(--faint);border-radius:10px;padding:16px 18px;
  margin:0 0 14px;min-width:0}
  .two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr));gap:14px;
  align-items:start}
  .scroll{overflow-x:auto}
  .chart{display:block;width:100%;min-width:720px;height:auto}
  .small .chart{min-width:0}
  .two .card{margin:0}
  .two{margin:0 0 14px}
  .tick,.unit{font-size:12px;fill:var(--soft)}
  .grid{stroke:var(--grid);stroke-width:1}
  .axis{stroke:var(--faint);stroke-width:1}
  .line{fill:none;stroke-width:1.7;stroke-linejoin:round}
  .line.price{stroke:var(--price);stroke-width:1.2}
  .band{fill:var(--band);stroke:var(--band);stroke-width:1;opacity:.75}
  .compact .mark{stroke-width:.5}
  .compact .mark.open{stroke-width:1.3}
  .compact .life,.compact .level{stroke-width:.8}
  details summary{cursor:pointer;font-size:13px;padding:3px 0}
  .wick{stroke:var(--down);stroke-width:1;fill:none}
  .rising{fill:var(--card);stroke:var(--down);stroke-width:1}
  .falling{fill:var(--down);stroke:var(--down);stroke-width:1}
  .line.main{stroke:var(--main)}
  .line.hedge{stroke:var(--hedge);stroke-dasharray:6 3}
  .line.both{stroke:var(--price)}
  .line.third{stroke:var(--cut);stroke-dasharray:2 3}
  .dot.main{fill:var(--main)}
  .dot.hedge{fill:var(--hedge)}
  .dot.both{fill:var(--price)}
  .dot.third{fill:var(--cut)}
  .end{font-size:12px;font-weight:600}
  .end.main{fill:var(--main)}
  .end.hedge{fill:var(--hedge)}
  .end.both{fill:var(--price)}
  .end.third{fill:var(--cut)}
  .price-end{fill:var(--price)}
  .threshold{stroke:var(--bad);stroke-width:1;stroke-dasharray:1 4;stroke-linecap:round}
  .threshold-name{font-size:11px;fill:var(--bad)}
  .empty{font-size:13px;fill:var(--soft)}
  .mark{stroke:var(--card);stroke-width:1.2;paint-order:stroke}
  .mark.main{fill:var(--main)}
  .mark.hedge{fill:var(--hedge)}
  .mark.open{fill:none;stroke-width:2.4;paint-order:normal}
  .mark.open.main{stroke:var(--main)}
  .mark.open.hedge{stroke:var(--hedge);stroke-width:2}
  .mark.cut{fill:var(--cut)}
  .mark.legend{fill:var(--price)}
  .mark.open.legend{stroke:var(--price);fill:none}
  .pip{fill:var(--card)}
  .life{stroke-width:1.4}
  .life.main{stroke:var(--main)}
  .life.hedge{stroke:var(--hedge);stroke-dasharray:4 3}
  .level{stroke-width:1}
  .level.stop{stroke:var(--bad);stroke-dasharray:5 3}
  .level.target{stroke:var(--good);stroke-dasharray:1.5 3}
  .number{font-size:11px;font-weight:700;fill:var(--ink);stroke:var(--card);stroke-width:3;paint-order:stroke}
  .rail{stroke-width:2}
  .rail.quiet{stroke:var(--soft);opacity:.4}
  .rail.loud{stroke:var(--bad)}
  .cursor{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3;pointer-events:none}
  .legend{display:flex;flex-wrap:wrap;gap:3px 15px;font-size:12.5px;color:var(--soft);margin:6px 0 0;
  padding:0;list-style:none}
  .legend li{display:flex;align-items:center;gap:5px}
  .legend svg{width:18px;height:16px;flex:none}
  .readout{min-height:20px;font-size:12.5px;color:var(--soft);font-variant-numeric:tabular-nums}
  table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
  th{font-weight:600;color:var(--soft);text-align:left;white-space:nowrap;position:sticky;top:0;
  background:var(--card);z-index:1}
  th,td{padding:5px 8px;vertical-align:top}
  td.n,th.n{text-align:right;white-space:nowrap}
  thead th{border-bottom:1px solid var(--faint)}
  tbody{border-bottom:1px solid var(--faint)}
  tbody tr+tr td{padding-top:0}
  .table{overflow:auto;max-height:620px}
  td .id{display:block;font:11px/1.4 ui-monospace,monospace;color:var(--soft);overflow-wrap:anywhere;
  min-width:112px}
  td.when{white-space:nowrap}
  td.why{min-width:150px;max-width:270px}
  td small{color:var(--soft)}
  .leg{font-weight:600}
  .leg.main{color:var(--main)}
  .leg.hedge{color:var(--hedge)}
  .events{list-style:none;margin:0;padding:0;font-size:13px;max-height:440px;overflow:auto}
  .events li{display:grid;grid-template-columns:118px 118px 1fr;gap:0 10px;padding:4px 0;
  border-bottom:1px solid var(--grid)}
  .events time{color:var(--soft);font-variant-numeric:tabular-nums}
  .events .kind{font-weight:600}
  .events .loud{color:var(--bad)}
  .events span:last-child{overflow-wrap:anywhere}
  dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 14px;margin:8px 0 0;font-size:13px}
  dt{color:var(--soft)}
  dd{margin:0}
  footer{color:var(--soft);font-size:13px;margin-top:34px;border-top:1px solid var(--faint);padding-top:14px}
@media (max-width:640px){
  .page{padding:16px 10px 32px}
  h1{font-size:21px}
  .card{padding:12px}
  .kpis{grid-template-columns:repeat(2,1fr)}
  .kpi b{font-size:21px}
  .events li{grid-template-columns:auto 1fr}
  .events span:last-child{grid-column:1/-1}
}
@media print{
  body{background:#fff}
  .card{break-inside:avoid}
  .table,.events{max-height:none}
}
"""

SCRIPT = """
for(const s of document.querySelectorAll('.segment')){
const charts=[...s.querySelectorAll('.timed .chart[data-x0]')],out=s.querySelector('.readout');
const data=JSON.parse(s.querySelector('script[type="application/json"]').textContent);
const rest=out?out.textContent:'';
const lines=charts.map(c=>{const l=document.createElementNS(c.namespaceURI,'line');l.setAttribute('class','cursor');
l.style.display='none';c.appendChild(l);return l});
const near=t=>{const a=data.times;let i=0,j=a.length-1;while(i<j){const m=i+j>>1;if(a[m]<t)i=m+1;else j=m}return i};
const show=e=>{const c=e.currentTarget,b=c.getBoundingClientRect(),x=(e.clientX-b.left)/b.width*data.width;
if(x<data.left||x>data.right||!data.times.length){hide();return}
const x0=+c.dataset.x0,x1=+c.dataset.x1,t=x0+(x-data.left)/(data.right-data.left)*(x1-x0);
charts.forEach((k,n)=>{const l=lines[n];l.setAttribute('x1',x);l.setAttribute('x2',x);l.setAttribute('y1',8);
l.setAttribute('y2',k.viewBox.baseVal.height-26);l.style.display=''});
const i=near(t);out.textContent=new Date(data.times[i]*1000).toISOString().slice(0,16).replace('T',' ')+' UTC'+
data.series.map(v=>v.values[i]==null?'':' \\u00b7 '+v.name+' '+v.values[i]).join('')};
const hide=()=>{lines.forEach(l=>l.style.display='none');if(out)out.textContent=rest};
charts.forEach(c=>{c.addEventListener('mousemove',show);c.addEventListener('mouseleave',hide)})}
"""
