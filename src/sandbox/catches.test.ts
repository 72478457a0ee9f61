import assert from 'node:assert/strict'
import { test } from 'node:test'
import { passOnStackErrors } from './catches.ts'

const run = (code: string): unknown => new Function(passOnStackErrors(code))()
const endless = 'const down=()=>down();'

test('no catch keeps the error that the stack is used up', () => {
  for (const code of [
    `${endless}try{down()}catch{return 1}`,
    `${endless}try{down()}catch(error){return error.message}`,
    `${endless}try{down()}catch({message,name:n='x'}){return message+n}`,
    `${endless}try{try{down()}catch{}return 2}catch(e){try{throw e}catch{return 3}}`,
    `${endless}const f=()=>{try{down()}catch(e){return 4}};return f()`,
    `${endless}try{down()}finally{return 5}`,
    `${endless}try{throw 1}catch{down()}finally{return 6}`,
    `${endless}a:try{down()}finally{break a}return 7`,
    `${endless}for(;;)try{try{down()}finally{break}}finally{try{}finally{return 8}}`,
    'const f=()=>{try{f()}finally{return 9}};return f()',
    'const g=function*(){try{yield*g()}finally{return}};return[...g()]',
  ]) {
    assert.throws(() => run(code), RangeError, code)
  }
})

test('every other error is caught as before', () => {
  for (const [code, value] of [
    ['try{throw 1}catch{return 2}', 2],
    ['try{throw null}catch(e){return e}', null],
    ['try{throw undefined}catch(e){return typeof e}', 'undefined'],
    ["try{throw{message:'m',name:'n'}}catch({message,name}){return message+name}", 'mn'],
    ["try{throw['a','b']}catch([x,...rest]){return x+rest}", 'ab'],
    ["try{throw new RangeError('no')}catch(e){return e.message}", 'no'],
    ["const s='catch(e){';try{throw s}catch(e){try{throw e+1}catch(e){return e}}", 'catch(e){1'],
    ['try{throw 1}catch(e){let x=e;{let e=2;return x+e}}', 3],
    ['try{return 1}catch{return 2}finally{}', 1],
    ['try{throw 1}finally{return 2}', 2],
    ['try{throw 1}catch(e){return e}finally{try{throw 2}finally{return 3}}', 3],
    ['let n=0;a:for(;;)try{n++;continue}finally{try{}finally{if(n>2)break a}}return n', 3],
    ['let n=0;if(n)try{n=1}finally{return 5}else try{n=2}finally{n++;for(;;)break}return n', 3],
    ['let n=0;try{n=1}finally{for(;;)break}try{n++}finally{for(;;)break}return n', 2],
  ] as const) {
    assert.deepEqual(run(code), value, code)
  }
})
