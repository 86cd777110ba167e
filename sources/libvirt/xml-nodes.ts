/** Small steps in an XML tree, in which the DOM escapes whatever text and attributes hold; {@link escapeXml} is for XML that is put together as text. */
import type { Element } from '@xmldom/xmldom'
import { children } from './domain-xml.ts'

/** The element holds this text and nothing else. */
export function replaceText(element: Element, text: string): void {
  while (element.firstChild) element.removeChild(element.firstChild)
  if (text !== '') element.appendChild(element.ownerDocument!.createTextNode(text))
}

/** Removes the direct children of that name that match. */
export function removeChildren(parent: Element, name: string, matches: (element: Element) => boolean = () => true): void {
  for (const element of children(parent, name).filter(matches)) parent.removeChild(element)
}

export function addChild(parent: Element, name: string, attributes: Record<string, string>): Element {
  const element = parent.ownerDocument!.createElement(name)
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value)
  parent.appendChild(element)
  return element
}

/** The direct child of that name, made if there is none. */
export function ensureChild(parent: Element, name: string): Element {
  return children(parent, name)[0] ?? addChild(parent, name, {})
}

/** Also for attributes in single quotes. */
export function escapeXml(value: string): string {
  return value.replace(/[&<>'"]/g, (character) => `&#${character.charCodeAt(0)};`)
}
